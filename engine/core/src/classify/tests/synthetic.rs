//! Hellos made to order.

/// The parts of a ClientHello message (RFC 8446 section 4.1.2).
#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub(super) session_id: Vec<u8>,
    pub(super) ciphers: Vec<u8>,
    pub(super) compressions: Vec<u8>,
    /// None leaves out the whole block, as clients of before TLS 1.2 do.
    pub(super) extensions: Option<Vec<(u16, Vec<u8>)>>,
}

impl Parts {
    pub(super) fn with(extensions: impl Into<Vec<(u16, Vec<u8>)>>) -> Self {
        Self {
            session_id: vec![7; 32],
            ciphers: vec![0x13, 0x01, 0x13, 0x02],
            compressions: vec![0],
            extensions: Some(extensions.into()),
        }
    }

    pub(super) fn message(&self) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend_from_slice(&[0x5a; 32]);
        body.extend(prefixed_u8(&self.session_id));
        body.extend(prefixed_u16(&self.ciphers));
        body.extend(prefixed_u8(&self.compressions));
        if let Some(extensions) = &self.extensions {
            let block = extensions.iter().flat_map(|(kind, content)| {
                [kind.to_be_bytes().to_vec(), prefixed_u16(content)].concat()
            });
            body.extend(prefixed_u16(&block.collect::<Vec<_>>()));
        }
        message(1, &body)
    }
}

/// A handshake message with its header.
pub(super) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind], &len[1..], body].concat()
}

/// The content of a server name extension with these entries.
pub(super) fn server_names(entries: &[(u8, &[u8])]) -> Vec<u8> {
    let list = entries
        .iter()
        .flat_map(|(kind, name)| [vec![*kind], prefixed_u16(name)].concat());
    prefixed_u16(&list.collect::<Vec<_>>())
}

/// The content of an ALPN extension with these protocols.
pub(super) fn alpn(protocols: &[&[u8]]) -> Vec<u8> {
    let list = protocols.iter().flat_map(|protocol| prefixed_u8(protocol));
    prefixed_u16(&list.collect::<Vec<_>>())
}

pub(super) fn prefixed_u8(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

pub(super) fn prefixed_u16(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    [&len, bytes].concat()
}
