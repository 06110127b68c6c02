//! `retrace sql` without a statement: a prompt on a terminal, a script elsewhere.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use retrace_tests::{Gate, Postgres, run, wait_for};

use crate::common::PATIENCE;

/// A statement of so many rows that no terminal has room for them.
const MANY_ROWS: &str = "SELECT a.event_type FROM events a, events b LIMIT 100;";

/// How often the terminal is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A shell on a terminal of 100 columns and 24 lines, which `script` (of util-linux, as setpriv is) makes.
struct Terminal {
    script: Child,
    typed: ChildStdin,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Bytes of what is shown that were waited for already.
    seen: usize,
    state: tempfile::TempDir,
}

impl Terminal {
    fn open(gate: &Gate, pager: &str) -> Self {
        let state = tempfile::tempdir().expect("a temporary folder");
        let shell = gate.retrace_command(None, &["sql"]);
        let mut script = Command::new("script");
        // Words of a command line from the environment need no quoting.
        script.args([
            "-qefc",
            "stty rows 24 cols 100; exec \"$RETRACE\" sql --config \"$CONFIG\"",
            "/dev/null",
        ]);
        script.env("RETRACE", shell.get_program()).env("CONFIG", gate.config_file());
        script.env_remove("RETRACE_TOKEN").env_remove("RETRACE_CONFIG").env_remove("LESS");
        script
            .env("XDG_STATE_HOME", state.path())
            .env("PAGER", pager)
            .env("TERM", "xterm")
            .env("NO_COLOR", "1");
        script.env("SHELL", "/bin/sh").current_dir(state.path());
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut script = script.spawn().expect("script starts; util-linux has it");
        let mut output = script.stdout.take().expect("stdout is piped");
        let shown = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                sink.lock().expect("nobody panics with it").extend_from_slice(&bytes[..length]);
            }
        });
        let typed = script.stdin.take().expect("stdin is piped");
        let mut terminal = Self { script, typed, shown, seen: 0, state };
        terminal.expect("retrace=> ");
        terminal
    }

    /// Waits until `text` is shown after what was waited for last; gives what is shown up to its end.
    #[track_caller]
    fn expect(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let new = self.shown.lock().expect("nobody panics with it")[self.seen..].to_vec();
            if let Some(at) = new.windows(text.len()).position(|window| window == text.as_bytes()) {
                self.seen += at + text.len();
                return String::from_utf8_lossy(&new[..at + text.len()]).into_owned();
            }
            let new = String::from_utf8_lossy(&new);
            assert!(Instant::now() < deadline, "{text:?} is not shown after: {new}");
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn press(&mut self, keys: &str) {
        self.typed.write_all(keys.as_bytes()).expect("script reads");
        self.typed.flush().expect("script reads");
    }

    /// Types a line and waits for the next prompt; gives what is shown until then, the line included.
    #[track_caller]
    fn enter(&mut self, line: &str, prompt: &str) -> String {
        self.press(line);
        self.press("\r");
        // First the end of the line, which is not what the prompt is redrawn with while it is typed.
        let echo = self.expect("\n");
        echo + &self.expect(prompt)
    }

    fn history(&self) -> PathBuf {
        self.state.path().join("retrace/sql_history")
    }

    /// Waits for the end and gives the exit code.
    #[track_caller]
    fn end(mut self) -> (Option<i32>, tempfile::TempDir) {
        let code = wait_for("the shell ends", PATIENCE, || {
            self.script.try_wait().expect("a child can be waited for").map(|status| status.code())
        });
        (code, self.state)
    }
}

#[test]
fn a_prompt_takes_statements_over_lines_and_goes_on_after_errors() {
    let gate = Gate::started(Postgres::shared().database());
    let mut terminal = Terminal::open(&gate, "cat");
    let _ = terminal.enter("SELECT 40 + 2 AS answer,", "retrace-> ");
    let shown = terminal.enter("'a;b' AS text;", "retrace=> ");
    assert!(shown.contains("answer") && shown.contains("42") && shown.contains("a;b"), "{shown}");
    assert!(shown.contains("(1 row)"), "{shown}");

    let shown = terminal.enter("\\d", "retrace=> ");
    assert!(
        ["events", "sessions", "commands", "responses", "masked_values"].iter().all(|it| shown.contains(it))
    );
    let shown = terminal.enter("\\d sessions", "retrace=> ");
    assert!(shown.contains("opened_at") && shown.contains("timestamp with time zone"), "{shown}");
    let shown = terminal.enter("\\d nothing", "retrace=> ");
    assert!(shown.contains("no table or view `nothing`"), "{shown}");

    let shown = terminal.enter("SELECT nothing FROM sessions; SELECT 7 * 11 AS product;", "retrace=> ");
    assert!(shown.contains("retrace: the statement is not valid") && shown.contains("77"), "{shown}");
    let shown = terminal.enter("\\frobnicate", "retrace=> ");
    assert!(shown.contains("\\?"), "{shown}");
    let shown = terminal.enter("\\timing", "retrace=> ");
    assert!(shown.contains("timing: on"), "{shown}");
    let shown = terminal.enter("SELECT 1 AS one;", "retrace=> ");
    assert!(shown.contains("time: ") && shown.contains(" ms"), "{shown}");
    let shown = terminal.enter("\\format csv", "retrace=> ");
    assert!(shown.contains("format: csv"), "{shown}");
    let shown = terminal.enter("SELECT 'a\"b' AS odd;", "retrace=> ");
    assert!(shown.contains("\"a\"\"b\""), "{shown}");

    // Ctrl-C clears the lines that were begun, Ctrl-D leaves.
    let _ = terminal.enter("SELECT (", "retrace(> ");
    terminal.press("\x03");
    terminal.expect("retrace=> ");
    terminal.press("\x04");
    assert_eq!(terminal.end().0, Some(0));
}

#[test]
fn tab_completes_what_the_service_has() {
    let gate = Gate::started(Postgres::shared().database());
    let mut terminal = Terminal::open(&gate, "cat");
    terminal.press("sel\tcount(princip\t) AS n FROM sess\t;\r");
    let shown = terminal.expect("(1 row)");
    assert!(shown.contains("FROM sessions"), "{shown}");
    // Pressed while nobody reads, it would be no key but the end of a line that is thrown away.
    terminal.expect("retrace=> ");
    terminal.press("\x04");
    assert_eq!(terminal.end().0, Some(0));
}

#[test]
fn p2_a_value_that_is_searched_for_does_not_get_into_the_history() {
    let gate = Gate::started(Postgres::shared().database());
    let mut terminal = Terminal::open(&gate, "cat");
    let _ = terminal.enter("SELECT 1 AS kept;", "retrace=> ");
    let _ = terminal.enter("SELECT count(*) FROM masked_values", "retrace-> ");
    let _ = terminal.enter("WHERE fingerprint = fingerprint('secret-7', 'email');", "retrace=> ");
    let _ = terminal
        .enter("SELECT count(*) FROM commands WHERE statement LIKE '%ada@example.com%';", "retrace=> ");
    let history = terminal.history();
    terminal.press("\x04");
    let (code, _state) = terminal.end();
    assert_eq!(code, Some(0));
    let kept = std::fs::read_to_string(&history).expect("the history is there");
    assert!(kept.contains("SELECT 1 AS kept;"), "{kept}");
    assert!(!kept.contains("secret-7") && !kept.contains("ada@example.com"), "{kept}");
    assert_eq!(history.metadata().expect("it is there").permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_does_not_fit_goes_to_the_pager_and_leaving_it_ends_the_statement() {
    let gate = Gate::started(Postgres::shared().database());
    let _ = gate.psql(&"SELECT 1;\n".repeat(100)).expect_ok();
    let mut terminal = Terminal::open(&gate, "sed 's/^/paged:/'");
    let shown = terminal.enter(MANY_ROWS, "retrace=> ");
    assert!(shown.matches("paged:").count() > 100 && shown.contains("paged:(100 rows)"), "{shown}");
    let shown = terminal.enter("SELECT 1 AS one;", "retrace=> ");
    assert!(!shown.contains("paged:"), "{shown}");
    let shown = terminal.enter("SELECT replace('xxxxxxxxxx', 'x', 'widewidewide') AS text;", "retrace=> ");
    assert!(shown.contains("paged:") && shown.contains(&"wide".repeat(30)), "{shown}");
    let shown = terminal.enter("\\pager off", "retrace=> ");
    assert!(shown.contains("pager: off"), "{shown}");
    let shown = terminal.enter(MANY_ROWS, "retrace=> ");
    assert!(!shown.contains("paged:") && shown.contains("(100 rows)"), "{shown}");
    terminal.press("\x04");
    assert_eq!(terminal.end().0, Some(0));

    let mut terminal = Terminal::open(&gate, "head -n 1");
    let endless = "SELECT a.statement FROM events a, events b, events c;";
    let shown = terminal.enter(endless, "retrace=> ");
    assert!(!shown.contains("retrace: "), "leaving the pager is no error: {shown}");
    let shown = terminal.enter("SELECT 6 * 7 AS answer;", "retrace=> ");
    assert!(shown.contains("42"), "{shown}");
    terminal.press("\x04");
    assert_eq!(terminal.end().0, Some(0));
    let open = "SELECT count(CASE WHEN event_type = 'evidence_read' THEN 1 END)
                     - count(CASE WHEN event_type = 'evidence_read_completed' THEN 1 END) AS n FROM events";
    // The question itself lies after its own cut.
    wait_for("the ends of the reads are on record", PATIENCE, || (gate.number(open) == 0).then_some(()));
}

#[test]
fn ctrl_c_cancels_a_statement_and_a_gate_that_comes_back_is_asked_again() {
    let mut gate = Gate::started(Postgres::shared().database());
    let _ = gate.psql(&"SELECT 1;\n".repeat(200)).expect_ok();
    let mut terminal = Terminal::open(&gate, "");
    // Longer than anybody waits, and silent.
    let endless =
        "SELECT count(*) FROM events a, events b, events c, events d WHERE a.statement < d.statement;";
    terminal.press(endless);
    terminal.press("\r");
    // In two parts, so that this question's own record does not match.
    let begun = "SELECT count(*) AS n FROM events WHERE statement LIKE concat('%events d ', 'WHERE%')";
    wait_for("the statement runs", PATIENCE, || (gate.number(begun) > 0).then_some(()));
    terminal.press("\x03");
    terminal.expect("retrace: cancelled");
    terminal.expect("retrace=> ");

    let _ = terminal.enter("SELECT 1 AS one;", "retrace=> ");
    assert!(gate.stop().success());
    gate.up();
    let shown = terminal.enter("SELECT 6 * 7 AS answer;", "retrace=> ");
    assert!(shown.contains("42"), "{shown}");

    // Without a gate the log is opened here, but not held, so that a gate can come back.
    assert!(gate.stop().success());
    let _ = terminal.enter("SELECT 1 AS one;", "retrace=> ");
    let shown = terminal.enter("SELECT 2 * 17 AS answer;", "retrace=> ");
    assert!(shown.contains("34"), "{shown}");
    gate.up();
    let shown = terminal.enter("SELECT 5 * 11 AS answer;", "retrace=> ");
    assert!(shown.contains("55"), "{shown}");
    terminal.press("\x04");
    assert_eq!(terminal.end().0, Some(0));
}

#[test]
fn a_script_runs_to_its_first_error() {
    let gate = Gate::started(Postgres::shared().database());
    let script = |text: &str| {
        let command = gate.retrace_command(None, &["sql", "--format", "csv"]);
        run(command, text.as_bytes(), PATIENCE)
    };
    let done =
        script("SELECT 1 AS one;\n-- a comment; with a semicolon\nSELECT\n'a;b' AS text; SELECT 3 AS three");
    assert_eq!(done.expect_ok(), "one\n1\ntext\na;b\nthree\n3\n");
    assert_eq!(done.err(), "");
    assert_eq!(script("").expect_ok(), "");
    let failed = script("SELECT 1 AS one;\nSELECT nothing FROM sessions;\nSELECT 3 AS three;\n");
    assert_eq!(failed.status.code(), Some(1));
    assert_eq!(failed.out(), "one\n1\n");
    let alone = gate.retrace(&["sql", "SELECT nothing FROM sessions"]).expect_failure();
    assert_eq!(failed.err(), alone, "an error reads as it does for a statement alone");

    let file = gate.dir().join("questions.sql");
    std::fs::write(&file, "SELECT 4 AS four;\n\\q\nSELECT 5 AS five;\n").expect("the folder is writable");
    let done = script(&format!("\\format jsonl\n\\i {}\nSELECT 6 AS six;\n", file.display()));
    assert_eq!(done.expect_ok(), "{\"four\":4}\n");
}
