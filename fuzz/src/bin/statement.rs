//! Fuzz target: the tokens of a statement, and whether COPY may be among them.

#![no_main]

use retrace_policy::decide::may_copy;
use retrace_policy::statement::{Backslash, first_words, redefined_names, tokens};

libfuzzer_sys::fuzz_target!(|sql: &[u8]| {
    for backslash in [Backslash::Plain, Backslash::Escape] {
        let mut end = 0;
        for token in tokens(sql, backslash) {
            assert!(token.range.start >= end && !token.range.is_empty(), "tokens come one after the other");
            assert!(
                sql[end..token.range.start].iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0x0b)
            );
            end = token.range.end;
        }
        assert!(end <= sql.len(), "tokens lie in the statement");
        let _ = (first_words(sql, backslash).count(), redefined_names(sql, backslash).len());
    }
    let _ = may_copy(sql);
});
