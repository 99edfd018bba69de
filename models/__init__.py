"""Nouns: run events, dimensions and outcomes, contexts, laws, settings and errors. No I/O, no maths."""
