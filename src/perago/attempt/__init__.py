"""The attempt protocol: what happens to one delivery, decided without doing any of it.

`protocol.advance(state, event)` returns the next state and the one command to carry out. Production, the embedded mode
and an author's tests run this same code; only what carries out the commands differs (`perago.driver`).
"""
