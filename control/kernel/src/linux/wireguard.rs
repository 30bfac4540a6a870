//! WireGuard devices of the kernel's module, over generic netlink
//! (`include/uapi/linux/wireguard.h`).

mod message;

use std::collections::BTreeMap;

use control_api::state::{PrivateKey, PublicKey};
use control_plan::{actual::ActualPeer, step::DeviceChange};
use netlink_packet_generic::{
    GenlMessage,
    ctrl::{GenlCtrl, GenlCtrlCmd, nlas::GenlCtrlAttrs},
};
use netlink_packet_wireguard::WireguardMessage;
use nix::errno::Errno;

use super::socket::{NetlinkError, Socket};

/// A device as the module shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) index: u32,
    pub(crate) private_key: Option<PrivateKey>,
    pub(crate) listen_port: u16,
    pub(crate) peers: BTreeMap<PublicKey, ActualPeer>,
}

/// The generic netlink socket of a namespace.
#[derive(Debug)]
pub(crate) struct WireGuard {
    socket: Socket,
    /// The number that the kernel gave to WireGuard's family at boot, when it is known.
    family: Option<u16>,
}

impl WireGuard {
    pub(crate) fn new(socket: Socket) -> Self {
        Self {
            socket,
            family: None,
        }
    }

    /// Shows the device of that name, if there is one.
    pub(crate) fn show(&mut self, name: &str) -> Result<Option<Shown>, NetlinkError> {
        let request = self.message(message::show(name))?;
        let answers = match self.socket.dump(request) {
            Ok(answers) => answers,
            Err(error) if error.errno() == Some(Errno::ENODEV) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut shown = Shown::default();
        for answer in answers {
            message::read(&mut shown, answer.payload);
        }
        Ok(Some(shown))
    }

    /// Changes a device in place. A change that does not fit into one message takes effect in
    /// parts; a prefix that moves between peers is never nobody's all the same, because the kernel
    /// moves it when it is given to the second.
    pub(crate) fn change(&mut self, name: &str, change: &DeviceChange) -> Result<(), NetlinkError> {
        for part in message::change(name, change) {
            let request = self.message(part)?;
            self.socket.change(request, 0)?;
        }
        Ok(())
    }

    fn message(
        &mut self,
        payload: WireguardMessage,
    ) -> Result<GenlMessage<WireguardMessage>, NetlinkError> {
        let family = match self.family {
            Some(family) => family,
            None => *self.family.insert(look_up(&mut self.socket)?),
        };
        let mut message = GenlMessage::from_payload(payload);
        message.set_resolved_family_id(family);
        Ok(message)
    }
}

/// Asks which number WireGuard's family has; the kernel loads the module for it where it can.
fn look_up(socket: &mut Socket) -> Result<u16, NetlinkError> {
    let request = GenlMessage::from_payload(GenlCtrl {
        cmd: GenlCtrlCmd::GetFamily,
        nlas: vec![GenlCtrlAttrs::FamilyName("wireguard".to_owned())],
    });
    let answer = socket.get(request)?;
    let attributes = answer.map(|answer| answer.payload.nlas).unwrap_or_default();
    let number = attributes.into_iter().find_map(|attribute| {
        if let GenlCtrlAttrs::FamilyId(number) = attribute {
            Some(number)
        } else {
            None
        }
    });
    number.ok_or_else(|| NetlinkError::Malformed("no number of the family wireguard".into()))
}
