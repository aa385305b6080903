"""What `Admin` does: administrative operations, pure, the same for every front.

An operation is a generator: it yields the requests that it wants answered (`steps.Ask`) or a
`steps.Pause`, gets the responses, and returns its result; `steps.run_steps` runs one on a
`ClientCore`. So an operation of several requests (find leaders, ask each, ask again those that
have moved) reads from top to bottom, and is tested by handing it responses.

* `topics`, `configs`, `groups`, `offsets`, `partitions` (what goes to the leaders of partitions),
  `cluster`: the operations.
* `results`: what they return.
* `lag`: how far a group is behind, and plans for moving its offsets.
* `refusals`: error codes as sentences that say what to do.
"""
