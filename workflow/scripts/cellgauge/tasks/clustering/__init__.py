"""Do clusters of the embedding agree with the labels, and does each label lie together?"""
