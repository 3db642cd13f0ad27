"""Are predicted responses to perturbations those that were measured?"""
