/* socket_transport.h - the transport of plain sockets. */
#ifndef FMQ_SOCKET_TRANSPORT_H
#define FMQ_SOCKET_TRANSPORT_H

#include "fastmq/engine.h"

/* recv, sendmsg and sendfile on a non-blocking socket.  Static storage. */
const fmq_transport *fmq_socket_transport(void);

#endif
