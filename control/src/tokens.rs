//! The API's tokens, from wherever the boot file says they are.

use std::{
    io,
    path::{Path, PathBuf},
};

use control_api::{
    Problem, Problems, Severity,
    boot::{Api, Credential, Secret, TOKEN_BYTES_MAX, Token, TokenFile},
};
use control_http::Tokens;
use zeroize::Zeroizing;

/// Where systemd puts the credentials of a unit (systemd.exec(5), "CREDENTIALS").
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// White space that may stand around the token in its file.
const SPACE_MAX: usize = 64;

/// Reads every token. Names of files begin at the boot file's folder; one without a folder is
/// looked for among systemd's credentials first.
///
/// # Errors
/// Every file that cannot be read or holds no token, and tokens that are those of another name.
pub(crate) fn read(boot_file: &Path, api: &Api) -> Result<Tokens, Problems> {
    let folder = boot_file.parent().unwrap_or(Path::new(""));
    let mut problems = Problems::default();
    let mut tokens = Vec::new();
    for Credential { name, role, secret } in api.credentials() {
        let token = match secret {
            Secret::Text(token) => Ok(token),
            Secret::File(file) => read_first(&file, folder),
        };
        match token {
            Ok(token) => tokens.push((name, role, token)),
            Err(error) => problems.push(Problem {
                pointer: "/api".to_owned(),
                hint: Some("a token file holds one token and nothing else".to_owned()),
                ..Problem::whole(
                    Severity::Error,
                    format!("the token of `{}`: {error}", name.as_str()),
                )
            }),
        }
    }
    if problems.refuse() {
        return Err(problems);
    }
    for (at, (name, _, token)) in tokens.iter().enumerate() {
        if let Some((other, ..)) = tokens[..at].iter().find(|(.., other)| other == token) {
            problems.push(Problem {
                pointer: "/api".to_owned(),
                hint: Some("give each a token of its own".to_owned()),
                ..Problem::whole(
                    Severity::Error,
                    format!(
                        "`{}` and `{}` have the same token: the audit log could not tell them apart",
                        other.as_str(),
                        name.as_str()
                    ),
                )
            });
        }
    }
    if problems.refuse() {
        return Err(problems);
    }
    let tokens = tokens
        .iter()
        .map(|(name, role, token)| (name, *role, token));
    Ok(Tokens::new(tokens))
}

/// Where a token's file may be.
pub(crate) fn places(file: &TokenFile, folder: &Path) -> Vec<PathBuf> {
    let credentials = std::env::var_os(CREDENTIALS).map(PathBuf::from);
    file.places(credentials.as_deref(), folder)
}

/// Reads the first of the places that has the file.
fn read_first(file: &TokenFile, folder: &Path) -> Result<Token, String> {
    let mut last = String::new();
    for place in places(file, folder) {
        match read_text(&place) {
            Ok(text) => {
                return Token::from_file(&text)
                    .map_err(|error| format!("{}: {error}", place.display()));
            }
            Err(error) => {
                last = format!("{} cannot be read: {error}", place.display());
                if error.kind() != io::ErrorKind::NotFound {
                    break;
                }
            }
        }
    }
    Err(last)
}

fn read_text(file: &Path) -> io::Result<Zeroizing<String>> {
    let max = u64::try_from(TOKEN_BYTES_MAX + SPACE_MAX).unwrap_or(u64::MAX);
    control_files::read_text(file, max)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use control_api::boot;

    use super::*;

    fn api(text: &str) -> Api {
        let no_variables = BTreeMap::<String, String>::new();
        boot::parse(text, &no_variables).unwrap().value.api
    }

    #[test]
    fn two_names_with_one_token_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("same"), "a-token-of-some-length\n").unwrap();
        let same = api(
            "listeners: [{ name: a, bind: 127.0.0.1:0, protocol: tls }]\napi:\n  tokens:\n  \
             - { name: x, role: reader, token: a-token-of-some-length }\n  \
             - { name: y, role: admin, token_file: same }",
        );
        let problems = read(&folder.path().join("ringway.yaml"), &same).unwrap_err();
        let told: Vec<String> = problems.iter().map(|p| p.message.clone()).collect();
        assert!(told[0].contains("`x` and `y`"), "{told:?}");
        assert!(!told[0].contains("a-token"), "{told:?}");
    }

    #[test]
    fn every_token_file_that_holds_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("good"), "a-token-of-some-length\n").unwrap();
        fs::write(folder.path().join("spaced"), "two words").unwrap();
        let boot_file = folder.path().join("ringway.yaml");
        let listeners = "listeners: [{ name: a, bind: 127.0.0.1:0, protocol: tls }]";
        let good = api(&format!("{listeners}\napi: {{ token_file: good }}"));
        assert!(!read(&boot_file, &good).unwrap().is_empty());
        let bad = api(&format!(
            "{listeners}\napi:\n  tokens:\n  - {{ name: x, role: reader, token_file: spaced }}\n  - {{ name: y, role: admin, token_file: missing }}"
        ));
        let problems = read(&boot_file, &bad).unwrap_err();
        let told: Vec<String> = problems.iter().map(|p| p.message.clone()).collect();
        assert!(
            told[0].contains("`x`") && told[0].contains("spaced"),
            "{told:?}"
        );
        assert!(
            told[1].contains("`y`") && told[1].contains("missing"),
            "{told:?}"
        );
        assert!(!told[0].contains("two words"), "{told:?}");
    }
}
