"""From counts to tokens, for the families whose way there is longer than an adapter should be."""
