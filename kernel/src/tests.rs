//! Kernel tests that belong to no one file: they take the parts together.
