//! Answers to ACME directories that look whether a name is ours (http-01, RFC 8555 section 8.3).
//!
//! They come before any rule, and only for names that an order is under way for: everything else
//! below the well-known path goes where the name's route says, to a tenant that may well do its own
//! proving.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use engine_core::hostname::Hostname;

/// Where a directory looks.
const FOLDER: &str = "/.well-known/acme-challenge/";

/// What is answered, shared by control and all workers: a look takes no lock and writes to no
/// shared memory, a change is seen by the next request. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Challenges(Arc<ArcSwap<HashMap<Hostname, Vec<Proof>>>>);

/// One token of a name, and what is answered for it. A name may have several while one order
/// follows another.
#[derive(Clone, Debug)]
struct Proof {
    token: Box<str>,
    answer: Arc<str>,
}

impl Challenges {
    /// Has requests for a token of `name` answered.
    pub fn put(&self, name: &Hostname, token: &str, answer: &str) {
        let proof = Proof {
            token: token.into(),
            answer: answer.into(),
        };
        self.0.rcu(|names| {
            let mut names = HashMap::clone(names);
            let proofs = names.entry(name.clone()).or_default();
            proofs.retain(|known| *known.token != *token);
            proofs.push(proof.clone());
            names
        });
    }

    /// Has them go where the route says again.
    pub fn remove(&self, name: &Hostname, token: &str) {
        self.0.rcu(|names| {
            let mut names = HashMap::clone(names);
            if let Some(proofs) = names.get_mut(name) {
                proofs.retain(|known| *known.token != *token);
                if proofs.is_empty() {
                    names.remove(name);
                }
            }
            names
        });
    }

    /// What a request for `path` at `host` is answered.
    pub(crate) fn find(&self, host: &str, path: &str) -> Option<Arc<str>> {
        let token = path.strip_prefix(FOLDER)?;
        let names = self.0.load();
        if names.is_empty() {
            return None;
        }
        let name = Hostname::parse(host.as_bytes()).ok()?;
        let mut proofs = names.get(&name)?.iter();
        let proof = proofs.find(|proof| *proof.token == *token)?;
        Some(Arc::clone(&proof.answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Hostname {
        Hostname::parse(name.as_bytes()).unwrap()
    }

    fn path(token: &str) -> String {
        format!("{FOLDER}{token}")
    }

    #[test]
    fn only_the_token_of_a_name_with_an_order_is_answered() {
        let challenges = Challenges::default();
        assert_eq!(challenges.find("a.example", &path("one")), None);
        challenges.put(&host("a.example"), "one", "one.key");
        let seen = challenges.clone();
        let found = |host: &str, path: &str| seen.find(host, path).map(|it| it.to_string());
        assert_eq!(found("a.example", &path("one")).as_deref(), Some("one.key"));
        assert_eq!(found("A.Example", &path("one")).as_deref(), Some("one.key"));
        for (host, path) in [
            ("b.example", path("one")),
            ("a.example", path("two")),
            ("a.example", path("")),
            ("a.example", "/one".to_owned()),
            ("a.example", path("one/..")),
            ("a.example:80:80", path("one")),
        ] {
            assert_eq!(found(host, &path), None, "{host}{path}");
        }
        challenges.put(&host("a.example"), "two", "two.key");
        challenges.remove(&host("a.example"), "one");
        assert_eq!(found("a.example", &path("one")), None);
        assert_eq!(found("a.example", &path("two")).as_deref(), Some("two.key"));
        challenges.remove(&host("a.example"), "two");
        assert!(challenges.0.load().is_empty());
    }
}
