//! Which steps lead from what is there to what is desired.
