"""Can a simple classifier name the labels of cells that it has not seen?"""
