"""The attempt protocol: a state machine that decides what happens to one delivery, without I/O.

`protocol.advance(state, event)` returns the next state and the one command to carry out. Production, the embedded mode
and an author's tests run the same code. Only the driver of the commands differs (`perago.driver`).
"""
