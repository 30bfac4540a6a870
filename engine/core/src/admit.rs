//! Who may have a connection: caps and rates over the whole process.
