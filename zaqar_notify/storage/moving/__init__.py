"""Moves of queues from one pool to another while they are in use (docs/decisions/0017).

records.py    a move, and how far it is
journal.py    moves that are asked for, followed, cancelled and ended: messages of internal queues
copying.py    one queue is brought from store to store
mover.py      the steps of a move
gates.py      a queue stands still for a moment, in one process or in all
"""
