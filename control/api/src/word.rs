//! Words of a file, repeated in what is said about it.

/// How far from a known word a mistyped one may be for the known one to be suggested.
const TYPING_ERRORS_MAX: usize = 2;

/// A word of the file as it may be repeated on a terminal: short, and without control characters.
pub(crate) fn printable(word: &str) -> String {
    const CHARS_MAX: usize = 80;
    let mut shown: String = word.chars().take(CHARS_MAX).flat_map(escaped).collect();
    if word.chars().nth(CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

fn escaped(char: char) -> impl Iterator<Item = char> {
    let keep = (!char.is_control()).then_some(char);
    let escape = char.is_control().then(|| char.escape_unicode());
    keep.into_iter().chain(escape.into_iter().flatten())
}

/// The known word that somebody meant who typed `word`.
pub(crate) fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    // The distance is quadratic in the lengths, and nobody mistypes a word into a long text.
    if word.len() > 64 {
        return None;
    }
    known
        .map(|known| {
            (
                strsim::osa_distance(&word.to_ascii_lowercase(), known),
                known,
            )
        })
        .filter(|&(distance, known)| distance <= TYPING_ERRORS_MAX && distance < known.len())
        .min()
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_known_word_is_suggested() {
        let known = ["listeners", "limits", "log"];
        for (word, near) in [
            ("listener", Some("listeners")),
            ("Limits", Some("limits")),
            ("lgo", Some("log")),
            ("x", None),
            ("timeouts", None),
        ] {
            assert_eq!(nearest(word, known.into_iter()), near, "{word}");
        }
    }

    #[test]
    fn a_repeated_word_is_short_and_harmless() {
        assert_eq!(printable("a\u{1b}[31m"), "a\\u{1b}[31m");
        assert_eq!(printable(&"a".repeat(1000)).chars().count(), 81);
    }
}
