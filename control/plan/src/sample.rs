//! What a peer's counters have counted since they were last read.
//!
//! A WireGuard device counts the bytes of each peer in two 64-bit counters, which begin at zero
//! with the device, or with the peer. So a counter that has gone backwards began again, and so did
//! all counters of a device that was made again, whatever they say by now.

/// One reading of a peer's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Raw {
    /// Which making of the device counted: another value means that both counters began again. Any
    /// number that the devices of one network never share will do.
    pub epoch: u64,
    /// Bytes received from the peer.
    pub rx: u64,
    /// Bytes sent to the peer.
    pub tx: u64,
}

/// What was counted between two readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Bytes received from the peer.
    pub rx: u64,
    /// Bytes sent to the peer.
    pub tx: u64,
}

impl Raw {
    /// What was counted since an earlier reading; without one, everything.
    ///
    /// A reset is seen by the epoch, or by a counter that is less than it was. One that overtook
    /// the earlier reading unobserved within the same epoch cannot be told from growth.
    #[must_use]
    pub fn since(self, before: Option<Self>) -> Delta {
        let all = Delta {
            rx: self.rx,
            tx: self.tx,
        };
        let Some(before) = before.filter(|before| before.epoch == self.epoch) else {
            return all;
        };
        // Both counters live and die together: one that went backwards speaks for the other.
        match (
            self.rx.checked_sub(before.rx),
            self.tx.checked_sub(before.tx),
        ) {
            (Some(rx), Some(tx)) => Delta { rx, tx },
            (None, _) | (_, None) => all,
        }
    }
}

impl Delta {
    /// True if nothing was counted.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }

    /// Both together. Stops at the largest number, which is four centuries of 10 Gbit/s.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            rx: self.rx.saturating_add(other.rx),
            tx: self.tx.saturating_add(other.tx),
        }
    }
}

/// Any number of readings in a row, in the room of three.
///
/// Where it is not yet known what came before the first of them, readings can be gathered all the
/// same, and be put behind others later: [`Span::after`] gives what each reading would have given
/// by itself, added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Absent where what came before it is known, and all that was counted since is in `between`.
    first: Option<Raw>,
    between: Delta,
    last: Raw,
}

impl Span {
    /// A single reading.
    #[must_use]
    pub fn of(raw: Raw) -> Self {
        Self {
            first: Some(raw),
            between: Delta::default(),
            last: raw,
        }
    }

    /// A single reading after one that is counted elsewhere, of the same counters.
    #[must_use]
    pub fn following(before: Raw, raw: Raw) -> Self {
        Self {
            first: None,
            between: raw.since(Some(before)),
            last: raw,
        }
    }

    /// Whether it is known what came before.
    #[must_use]
    pub fn is_following(self) -> bool {
        self.first.is_none()
    }

    /// Appends readings that were made later.
    pub fn append(&mut self, later: Self) {
        let step = later.first.map(|first| first.since(Some(self.last)));
        let step = step.unwrap_or_default();
        self.between = self.between.plus(step).plus(later.between);
        self.last = later.last;
    }

    /// What was counted since a reading that was made earlier, up to the last one. Where it is known
    /// what came before, that counts, and not `before`.
    #[must_use]
    pub fn after(self, before: Option<Raw>) -> Delta {
        let until_first = self.first.map(|first| first.since(before));
        until_first.unwrap_or_default().plus(self.between)
    }

    /// The last reading.
    #[must_use]
    pub fn last(self) -> Raw {
        self.last
    }
}

#[cfg(test)]
mod tests;
