//! What peers tell each other about what they can and have.
