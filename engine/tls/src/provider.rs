//! The cryptography that all sessions use.

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
    Arc::new(CryptoProvider {
        // The hybrid first: recorded traffic stays closed to whoever has a quantum computer later.
        kx_groups: vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1],
        ..aws_lc_rs::default_provider()
    })
});

/// aws-lc-rs with the hybrid post-quantum group in front. Made once: nothing in it has a state.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    PROVIDER.clone()
}
