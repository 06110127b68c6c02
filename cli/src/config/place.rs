use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use retrace_policy::rules::Problem;

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}; `retrace init DIR` makes one, --config names another", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No configuration is this large.
    #[error("{}: larger than {} bytes, so it is not a configuration", file.display(), super::CONFIG_BYTES_MAX)]
    TooLarge {
        /// Which.
        file: PathBuf,
    },
    /// TOML is UTF-8.
    #[error("{}: not UTF-8 text", file.display())]
    NotText {
        /// Which.
        file: PathBuf,
    },
    /// Rules that cannot be.
    #[error("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Rules {
        /// Everything that is wrong with them.
        problems: Vec<RuleProblem>,
    },
    /// A value that is not allowed.
    #[error("{}:{line}: {place}{problem}", file.display())]
    Value {
        /// Which file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The table and the field, each followed by a colon and a space, as far as they are known.
        place: String,
        /// What is wrong, and what is allowed.
        problem: String,
    },
}

/// What is wrong with a file of rules.
#[derive(Debug, thiserror::Error)]
#[error("{}:{}:{}: {}; {}", file.display(), problem.line, problem.column, problem.problem, problem.remedy)]
pub(crate) struct RuleProblem {
    pub(super) file: PathBuf,
    pub(super) problem: Problem,
}

/// A configuration's text, for errors that say where they are.
pub(super) struct Source<'a> {
    pub(super) file: &'a Path,
    pub(super) text: &'a str,
}

impl Source<'_> {
    /// An error at a value whose place is known.
    pub(super) fn error(&self, at: Range<usize>, problem: impl fmt::Display) -> ConfigError {
        let start = at.start.min(self.text.len());
        let before = &self.text.as_bytes()[..start];
        let line = before.iter().filter(|&&byte| byte == b'\n').count();
        ConfigError::Value {
            file: self.file.to_owned(),
            line: line + 1,
            place: self.place(line),
            problem: problem.to_string(),
        }
    }

    /// An error of the TOML parser, or of the form.
    pub(super) fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let message = error.message().trim_end();
        let problem = message
            .replace("unknown field", "unknown key")
            .replace("missing field", "missing key")
            .replace("unknown variant", "unknown value")
            .replace(", expected", "; allowed:")
            .replace("allowed: one of", "allowed:");
        self.error(error.span().unwrap_or(0..0), problem)
    }

    /// The table that a line stands in, by its name if it has one, and the key on the line.
    fn place(&self, line: usize) -> String {
        let lines: Vec<&str> = self.text.lines().collect();
        let Some(header) = (0..=line.min(lines.len().saturating_sub(1))).rev().find(|&at| {
            lines.get(at).is_some_and(|text| text.trim_start().starts_with('[')) && key(lines[at]).is_none()
        }) else {
            return lines
                .get(line)
                .and_then(|text| key(text))
                .map_or_else(String::new, |key| format!("{key}: "));
        };
        let title = lines[header].split('#').next().unwrap_or_default();
        let title = title.trim().trim_matches(['[', ']']).trim();
        let name = lines[header + 1..]
            .iter()
            .take_while(|text| !text.trim_start().starts_with('['))
            .find(|text| key(text) == Some("name"))
            .and_then(|text| text.split(['"', '\'']).nth(1));
        let table = match name {
            Some(name) => format!("{title} `{name}`: "),
            None => format!("{title}: "),
        };
        match lines.get(line).and_then(|text| key(text)) {
            Some(key) if line != header => format!("{table}{key}: "),
            _ => table,
        }
    }
}

/// The bare key that a line assigns, if it does.
fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once('=')?;
    let key = key.trim();
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '.';
    (!key.is_empty() && key.chars().all(bare)).then_some(key)
}
