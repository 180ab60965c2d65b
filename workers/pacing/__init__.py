"""Paced deliveries: in order, in batches, at a rate or so many at once, as the subscription asks (`rules.pacing`).

replay.py   the replay of a paced subscription: which job may, and what it leaves to the next one
round.py    one own queue of the subscription: which deliveries begin, and when
parts.py    the parts of the engine that it uses, and its ends
window.py   those that were read and have not begun
line.py     deliveries on that queue, read in order and deleted when they are done
trying.py   one request: its attempt, and what becomes of its deliveries
places.py   the places that deliveries keep on the queue until their next attempt
lanes.py    which deliveries may not overtake each other
bucket.py   the token bucket
"""
