//! Identities, as types of their own so that no two can be mixed up.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A network (a tenant). It keeps its id over every snapshot in which it is declared.
    NetworkId(u32)
);
id!(
    /// A route: one name or fixed target of one network. Ids are dense (they index tables) and a
    /// route keeps its id over every snapshot in which it is declared.
    RouteId(u32)
);
id!(
    /// A target: what its endpoint comes to as a number, so that it is the same in every snapshot, route
    /// and process. See [`crate::endpoint::Endpoint::id`].
    TargetId(u64)
);
id!(
    /// A network namespace that connections are dialed from. The descriptor behind it is the
    /// engine's.
    NetnsId(u32)
);
id!(
    /// A listener. It keeps its id over every publication in which it is declared.
    ListenerId(u32)
);
id!(
    /// A worker thread, counted from 0.
    WorkerId(u16)
);
id!(
    /// The number of a snapshot. It only grows; workers refuse an older one.
    Generation(u64)
);
