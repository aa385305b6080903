"""Sans-I/O connections: frames, correlation ids and the choice of versions.

A `Connection` is the client's end of one TCP connection without the TCP: bytes from the peer are
written into the buffer it hands out, answers come back decoded, and what it wants to send is taken
away as a list of buffers. It opens with ApiVersions and knows afterwards which version of an API
both sides speak.

    connection = Connection(client_id="me")
    connection.start()
    send(connection.take_output())
    answers = connection.received(socket.recv_into(connection.receive_buffer()))

No sockets, no clock, no async library; TLS and SASL belong here when they come.
"""

from fastmq.net.connection import Answer, Connection

__all__ = ["Answer", "Connection"]
