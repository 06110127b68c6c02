//! Settings that make the target read statements otherwise than the parser.

use super::deny::LEXED_OTHERWISE;
use crate::decide::Denial;
use crate::facts::SettingFacts;

/// Whether a session may set a setting. DEFAULT and RESET are what the session began with, which it was let in with.
pub(super) fn may_set(setting: &SettingFacts) -> Result<(), Denial> {
    let allowed = match setting.values.as_slice() {
        [] => true,
        [value] => may(&setting.name, value),
        _ => !is_lexical(&setting.name),
    };
    if allowed { Ok(()) } else { Err(LEXED_OTHERWISE) }
}

/// Whether `set_config` may be called with these arguments: only if the name, and the value where it matters, stand there.
pub(super) fn may_configure(arguments: &[Option<String>]) -> bool {
    match arguments {
        [Some(name), value, ..] => {
            let name = name.to_ascii_lowercase();
            match value {
                Some(value) => may(&name, value),
                None => !is_lexical(&name),
            }
        }
        _ => false,
    }
}

fn is_lexical(name: &str) -> bool {
    matches!(name, "standard_conforming_strings" | "client_encoding" | "names")
}

fn may(name: &str, value: &str) -> bool {
    let plain: String =
        value.chars().filter(char::is_ascii_alphanumeric).map(|char| char.to_ascii_lowercase()).collect();
    match name {
        "standard_conforming_strings" => matches!(plain.as_str(), "on" | "true" | "yes" | "1"),
        // Encodings in which every byte of a statement is read as the parser reads it.
        "client_encoding" | "names" => matches!(plain.as_str(), "utf8" | "unicode" | "sqlascii"),
        _ => true,
    }
}
