"""Do cells of one label lie together, whatever their species?"""
