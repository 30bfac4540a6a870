//! Two devices and a network between them.
