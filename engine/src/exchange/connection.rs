//! A connection whose requests are exchanged.

use std::{ops::Deref, rc::Rc};

use crate::{transport::streams::ClientFlow, upstream::Pools};

/// What every stage of a request works with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connection<'a> {
    pub(crate) client: ClientFlow<'a>,
    pub(crate) pools: &'a Rc<Pools>,
}

impl<'a> Deref for Connection<'a> {
    type Target = ClientFlow<'a>;

    fn deref(&self) -> &Self::Target {
        &self.client
    }
}
