"""From counts to tokens, for model families whose tokenization is too long for the adapter's file."""
