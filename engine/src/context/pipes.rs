//! The pipes that a worker splices through.

use std::{cell::RefCell, io};

use engine_sys::pipe::Pipe;

/// Empty pipes, kept for the next flow: opening one costs three system calls and its pages.
#[derive(Debug)]
pub(crate) struct Pipes {
    idle: RefCell<Vec<Pipe>>,
    capacity: usize,
    idle_max: usize,
}

impl Pipes {
    pub(crate) fn new(capacity: usize, idle_max: usize) -> Self {
        Self {
            idle: RefCell::default(),
            capacity,
            idle_max,
        }
    }

    /// An empty pipe.
    ///
    /// # Errors
    /// When none is idle and no descriptor is left.
    pub(crate) fn take(&self) -> io::Result<Pipe> {
        let idle = self.idle.borrow_mut().pop();
        idle.map_or_else(|| Pipe::open(self.capacity), Ok)
    }

    /// Takes back a pipe, which must be empty.
    pub(crate) fn give(&self, pipe: Pipe) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.idle_max {
            idle.push(pipe);
        }
    }

    /// How many are idle.
    #[cfg(test)]
    pub(crate) fn idle(&self) -> usize {
        self.idle.borrow().len()
    }
}
