use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer};

/// The statements of a text, as they stand in it. What cannot be told apart is one, and its parser says why.
pub(super) fn statements(text: &str) -> Vec<&str> {
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location() else {
        return vec![text];
    };
    let ends = tokens.iter().filter(|token| token.token == Token::SemiColon).map(|token| token.span.start);
    let mut places = Places { text, line: 1, column: 1, bytes: 0 };
    let mut begin = 0;
    let mut statements = Vec::new();
    for end in ends {
        let Some(end) = places.bytes_until(end) else { return vec![text] };
        statements.push(&text[begin..end]);
        begin = end + 1;
    }
    statements.push(&text[begin..]);
    statements.retain(|statement| !is_blank(statement));
    statements
}

/// Whether there is nothing but white space and comments.
fn is_blank(statement: &str) -> bool {
    let tokens = Tokenizer::new(&GenericDialect {}, statement).tokenize();
    tokens.is_ok_and(|tokens| tokens.iter().all(|token| matches!(token, Token::Whitespace(_))))
}

/// Walks a text once, from lines and columns to bytes.
struct Places<'a> {
    text: &'a str,
    line: u64,
    column: u64,
    bytes: usize,
}

impl Places<'_> {
    fn bytes_until(&mut self, place: Location) -> Option<usize> {
        while (self.line, self.column) != (place.line, place.column) {
            let next = self.text[self.bytes..].chars().next()?;
            self.bytes += next.len_utf8();
            (self.line, self.column) =
                if next == '\n' { (self.line + 1, 1) } else { (self.line, self.column + 1) };
        }
        Some(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::statements;

    #[test]
    fn statements_end_at_semicolons_that_stand_in_no_text_and_no_comment() {
        for (text, expected) in [
            ("SELECT 1", &["SELECT 1"][..]),
            ("SELECT 'é;';\nSELECT 2;", &["SELECT 'é;'", "\nSELECT 2"]),
            ("-- a; b\nSELECT 1; /* c; */", &["-- a; b\nSELECT 1"]),
            ("", &[]),
            (" ; ;; -- nothing", &[]),
            ("SELECT 'open; ", &["SELECT 'open; "]),
        ] {
            assert_eq!(statements(text), expected, "{text}");
        }
    }
}
