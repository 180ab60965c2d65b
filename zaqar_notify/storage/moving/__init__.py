"""Moves of queues from one pool to another while they are in use (docs/decisions/0017).

records.py    a move, and how far it is
journal.py    moves that are asked for, followed, cancelled and ended: messages of internal queues
runner.py     carries out moves, in a process of the engine
mover.py      the steps of a move
parts.py      the client's queue and those of its subscriptions are brought together
copying.py    one queue is brought from store to store
gates.py      a queue stands still for a moment, in one process or in all
members.py    the part of each process in that
notices.py    words between a move and these processes
"""
