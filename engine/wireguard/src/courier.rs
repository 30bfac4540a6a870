//! Commands to a thread that waits in epoll(7): a channel, and a doorbell (eventfd(2)) beside the
//! thread's other descriptors.

use std::{io, sync::Arc};

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use nix::sys::{
    epoll::{Epoll, EpollEvent, EpollFlags},
    eventfd::{EfdFlags, EventFd},
};

/// Commands that a thread does before its other work gets its turn again.
const COMMANDS_PER_TURN: usize = 32;

/// Takes commands to a thread.
#[derive(Debug)]
pub(crate) struct Courier<C> {
    commands: Option<Sender<C>>,
    doorbell: Arc<EventFd>,
}

/// Where they arrive.
#[derive(Debug)]
pub(crate) struct Mailbox<C> {
    commands: Receiver<C>,
    doorbell: Arc<EventFd>,
}

/// The thread has ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended;

/// Makes both ends.
pub(crate) fn pair<C>() -> io::Result<(Courier<C>, Mailbox<C>)> {
    let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
    let doorbell = Arc::new(EventFd::from_value_and_flags(0, flags)?);
    let (sender, commands) = crossbeam_channel::unbounded();
    let courier = Courier {
        commands: Some(sender),
        doorbell: doorbell.clone(),
    };
    Ok((courier, Mailbox { commands, doorbell }))
}

impl<C> Courier<C> {
    /// Has a command done and waits for the answer.
    ///
    /// # Errors
    /// When the thread has ended.
    pub(crate) fn ask<T>(&self, command: impl FnOnce(Sender<T>) -> C) -> Result<T, Ended> {
        let (answer, answered) = crossbeam_channel::bounded(1);
        let commands = self.commands.as_ref().ok_or(Ended)?;
        commands.send(command(answer)).map_err(|_| Ended)?;
        ring(&self.doorbell);
        answered.recv().map_err(|_| Ended)
    }
}

impl<C> Clone for Courier<C> {
    fn clone(&self) -> Self {
        Self {
            commands: self.commands.clone(),
            doorbell: self.doorbell.clone(),
        }
    }
}

impl<C> Drop for Courier<C> {
    /// The last one tells the thread that there will be no more commands.
    fn drop(&mut self) {
        self.commands = None;
        ring(&self.doorbell);
    }
}

impl<C> Mailbox<C> {
    /// Has `epoll` report the doorbell as `data`.
    pub(crate) fn watch(&self, epoll: &Epoll, data: u64) -> io::Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, data);
        Ok(epoll.add(&*self.doorbell, event)?)
    }

    /// Takes some of the commands after the doorbell was reported. When there are more, it rings
    /// again.
    ///
    /// # Errors
    /// When nobody is left who could send any.
    pub(crate) fn take(&self) -> Result<Vec<C>, Ended> {
        // An error says that it had not been rung.
        let _ = self.doorbell.read();
        let mut taken = Vec::new();
        while taken.len() < COMMANDS_PER_TURN {
            match self.commands.try_recv() {
                Ok(command) => taken.push(command),
                Err(TryRecvError::Disconnected) if taken.is_empty() => return Err(Ended),
                Err(TryRecvError::Empty) => return Ok(taken),
                Err(TryRecvError::Disconnected) => break,
            }
        }
        ring(&self.doorbell);
        Ok(taken)
    }
}

fn ring(doorbell: &EventFd) {
    // It fails only when it has been rung 2^64 times without being heard.
    let _ = doorbell.write(1);
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn commands_are_answered_and_the_end_is_told_at_both_ends() {
        let (courier, mailbox) = pair::<(u8, Sender<u8>)>().unwrap();
        let thread = thread::spawn(move || {
            loop {
                for (number, answer) in mailbox.take()? {
                    answer.send(number + 1).unwrap();
                }
                thread::yield_now();
            }
            #[expect(unreachable_code, reason = "gives the closure its type")]
            Ok::<(), Ended>(())
        });
        let other = courier.clone();
        assert_eq!(other.ask(|answer| (1, answer)), Ok(2));
        drop(other);
        assert_eq!(courier.ask(|answer| (2, answer)), Ok(3));
        drop(courier);
        assert_eq!(thread.join().unwrap(), Err(Ended));
        let (courier, mailbox) = pair::<Sender<()>>().unwrap();
        drop(mailbox);
        assert_eq!(courier.ask(|answer| answer), Err(Ended));
    }

    #[test]
    fn more_commands_than_one_turn_takes_ring_again() {
        let (courier, mailbox) = pair::<usize>().unwrap();
        let commands = courier.commands.as_ref().unwrap();
        for number in 0..2 * COMMANDS_PER_TURN {
            commands.send(number).unwrap();
        }
        ring(&courier.doorbell);
        assert_eq!(mailbox.take().unwrap().len(), COMMANDS_PER_TURN);
        assert_eq!(mailbox.doorbell.read(), Ok(1), "it rang for the rest");
        assert_eq!(mailbox.take().unwrap().len(), COMMANDS_PER_TURN);
        assert_eq!(mailbox.take().unwrap(), Vec::<usize>::new());
    }
}
