//! What was typed, kept for the next time: in a file of the user's, and without any value that masking is for.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use retrace_policy::mask::{FingerprintKey, Masker};
use rustyline::Config;
use rustyline::error::ReadlineError;
use rustyline::history::{FileHistory, History};

use super::line::is_of_a_name;

/// Entries that the file keeps; the oldest give way.
pub(super) const HISTORY_ENTRIES_MAX: usize = 1000;

/// Longest entry that the file takes, in bytes.
const HISTORY_ENTRY_BYTES_MAX: usize = 16 * 1024;

/// The function whose argument is a value that nothing may keep.
const FINGERPRINT: &str = "fingerprint";

/// The file of what was typed. When it cannot be read or written, that is said once, and nothing more is kept.
pub(super) struct Kept {
    open: Option<(FileHistory, PathBuf)>,
    masker: Masker,
}

impl Kept {
    /// Reads the file, if there is one.
    pub(super) fn open(file: Option<PathBuf>, config: &Config, say: impl FnOnce(String)) -> Self {
        // Nothing that is masked leaves here, so the key does not matter.
        let masker = Masker::everything(FingerprintKey::new(b"history"));
        let Some(file) = file else {
            say("what you type is not kept: set HOME or XDG_STATE_HOME".to_owned());
            return Self { open: None, masker };
        };
        let mut history = FileHistory::with_config(config);
        let open = match read(&mut history, &file) {
            Ok(()) => Some((history, file)),
            Err(error) => {
                say(sentence(&file, &error));
                None
            }
        };
        Self { open, masker }
    }

    /// What was typed before, the oldest first.
    pub(super) fn entries(&self) -> impl Iterator<Item = &String> {
        self.open.iter().flat_map(|(history, _)| history.iter())
    }

    /// Keeps what was typed, unless it holds what must not be kept.
    pub(super) fn add(&mut self, entry: &str, say: impl FnOnce(String)) {
        let Some((history, file)) = &mut self.open else { return };
        if entry.len() > HISTORY_ENTRY_BYTES_MAX || is_secret(entry, &self.masker) {
            return;
        }
        let added = history.add(entry).and_then(|is_new| if is_new { history.append(file) } else { Ok(()) });
        if let Err(error) = added {
            say(sentence(file, &error));
            self.open = None;
        }
    }
}

/// Where the history is: `retrace/sql_history` in the user's folder of state. `None` if the environment names none.
pub(super) fn file() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("retrace/sql_history"))
}

fn read(history: &mut FileHistory, file: &Path) -> Result<(), ReadlineError> {
    if let Some(folder) = file.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    match history.load(file) {
        Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        read => read,
    }
}

fn sentence(file: &Path, error: &ReadlineError) -> String {
    format!("what you type is not kept: {}: {error}", file.display())
}

/// Whether something typed asks for a fingerprint, or a detector finds a value in it.
fn is_secret(entry: &str, masker: &Masker) -> bool {
    asks_for_fingerprint(entry) || masker.mask_string(entry).get() != entry
}

/// Whether `fingerprint(` stands anywhere in a text, in quotes and comments too; with a comment between the two, whatever
/// comes after it. The column of that name alone is no secret.
fn asks_for_fingerprint(entry: &str) -> bool {
    let entry = entry.to_ascii_lowercase();
    entry.match_indices(FINGERPRINT).any(|(at, _)| {
        let after = entry[at + FINGERPRINT.len()..].trim_start_matches(['"', '`']).trim_start();
        let is_called = ["(", "/*", "--"].iter().any(|begin| after.starts_with(begin));
        is_called && !entry[..at].ends_with(is_of_a_name)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn config() -> Config {
        Config::builder().max_history_size(HISTORY_ENTRIES_MAX).unwrap().build()
    }

    fn opened(file: &Path) -> (Kept, Vec<String>) {
        let mut said = Vec::new();
        let kept = Kept::open(Some(file.to_owned()), &config(), |it| said.push(it));
        (kept, said)
    }

    #[test]
    fn a_value_searched_for_is_seen_however_it_is_asked() {
        let masker = Masker::everything(FingerprintKey::new(b"key"));
        for (entry, is_one) in [
            ("SELECT fingerprint('secret-7', 'email')", true),
            ("SELECT FingerPrint\n (\n'secret-7', 'email')", true),
            ("SELECT \"fingerprint\"('secret-7', 'email')", true),
            ("SELECT fingerprint/* a */ -- b\n('secret-7', 'email')", true),
            ("SELECT fingerprint/* a /* b */ */('secret-7', 'email')", true),
            ("SELECT fingerprint /* open ('secret-7'", true),
            ("SELECT 1 WHERE x LIKE '%4111 1111 1111 1111%'", true),
            ("SELECT 1 WHERE x = 'ada@example.com'", true),
            ("SELECT fingerprint, count(*) FROM masked_values GROUP BY fingerprint", false),
            ("SELECT my_fingerprint('x')", false),
            ("SELECT 1 FROM commands WHERE statement LIKE '%customers%'", false),
            ("\\d masked_values", false),
        ] {
            assert_eq!(is_secret(entry, &masker), is_one, "{entry}");
        }
    }

    #[test]
    fn what_was_typed_is_there_the_next_time_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state/retrace/sql_history");
        let (mut kept, said) = opened(&file);
        assert_eq!((kept.entries().count(), said.len()), (0, 0));
        kept.add("SELECT 1\nFROM events;", |it| panic!("{it}"));
        kept.add("SELECT fingerprint('secret-7', 'email');", |it| panic!("{it}"));
        kept.add("\\d", |it| panic!("{it}"));
        kept.add("\\d", |it| panic!("{it}"));
        let (again, _) = opened(&file);
        assert_eq!(again.entries().collect::<Vec<_>>(), ["SELECT 1\nFROM events;", "\\d"]);
        assert!(!std::fs::read_to_string(&file).unwrap().contains("secret-7"));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    }

    #[test]
    fn the_oldest_entries_give_way() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sql_history");
        let (mut kept, _) = opened(&file);
        for number in 0..HISTORY_ENTRIES_MAX + 3 {
            kept.add(&format!("SELECT {number};"), |it| panic!("{it}"));
        }
        kept.add(&"x".repeat(HISTORY_ENTRY_BYTES_MAX + 1), |it| panic!("{it}"));
        let (again, _) = opened(&file);
        assert_eq!(again.entries().count(), HISTORY_ENTRIES_MAX);
        assert_eq!(again.entries().next().unwrap(), "SELECT 3;");
        assert_eq!(again.entries().last().unwrap(), &format!("SELECT {};", HISTORY_ENTRIES_MAX + 2));
    }

    #[test]
    fn a_file_that_cannot_be_written_is_said_once_and_nothing_fails() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("retrace/sql_history");
        let (mut kept, _) = opened(&file);
        std::fs::remove_dir(file.parent().unwrap()).unwrap();
        let mut said = Vec::new();
        kept.add("SELECT 1;", |it| said.push(it));
        kept.add("SELECT 2;", |it| said.push(it));
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("sql_history"), "{said:?}");
        let (kept, said) = opened(&folder.path().join("\0/x"));
        assert_eq!((kept.entries().count(), said.len()), (0, 1));
    }
}
