"""Files as people have them, read at the boundary: what comes out is right, or one sentence says what is wrong.

Every reader raises CellgaugeError for what it cannot read right, and returns notes on what it read in another way than it is
written.
"""
