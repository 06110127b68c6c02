/// How texts look on the terminal they are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Columns of the terminal; what is wider is cut. `None`: nothing is cut.
    pub width: Option<usize>,
    /// Colours and weights by SGR sequences (ECMA-48, section 8.3.117), the only escape sequences that come out.
    pub color: bool,
    /// Rows shown of one result.
    pub rows_max: usize,
}

impl Default for Look {
    fn default() -> Self {
        Self { width: None, color: false, rows_max: 1000 }
    }
}

/// What a text is, for its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tint {
    Aside,
    Statement,
    Wrong,
    Missing,
}

impl Look {
    /// `text`, already safe, in its colour.
    pub(crate) fn paint(&self, tint: Tint, text: &str) -> String {
        if !self.color || text.is_empty() {
            return text.to_owned();
        }
        let code = match tint {
            Tint::Aside => "2",
            Tint::Statement => "1",
            Tint::Wrong => "31",
            Tint::Missing => "1;33",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}
