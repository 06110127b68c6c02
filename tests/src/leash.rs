//! A process that ends with the one that started it.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Starts its arguments, says their pid, and waits for the end of its input, which the kernel brings about however the
/// holder of the other end dies. Then it ends what it started without ceremony (nobody will read its data again), waits for
/// it and takes its folder away.
const KEEPER: &str = r#"
trap "" INT TERM HUP
folder=$1 signals=$2 pause=$3; shift 3
"$@" >&2 &
pid=$!
echo "$pid"
read -r _
for signal in $signals; do kill -"$signal" "$pid" 2>/dev/null; done
wait "$pid"
sleep "$pause"
rm -rf "$folder"
"#;

/// Who runs a leashed process.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// How a leashed process is ended.
#[derive(Clone, Copy, Debug)]
pub enum Ending {
    /// It may tidy up, as long as it does not take its time: PostgreSQL ends at once by SIGQUIT; what does not know that
    /// signal was started with it ignored, as a shell starts what runs beside it, and ends by SIGTERM.
    Asked,
    /// It may not: a broker that is asked to go first hands over to others, who may be gone already.
    Killed,
    /// Killed, and a second later its folder goes: others, who end at the same time, have theirs in it.
    KilledLast,
}

impl Ending {
    fn signals(self) -> &'static str {
        match self {
            Self::Asked => "QUIT TERM",
            Self::Killed | Self::KilledLast => "KILL",
        }
    }

    fn pause_seconds(self) -> &'static str {
        match self {
            Self::Asked | Self::Killed => "0",
            Self::KilledLast => "1",
        }
    }
}

/// Holds a process; letting go ends it and removes its folder.
#[derive(Debug)]
pub struct Leash {
    keeper: Child,
    hold: Option<ChildStdin>,
    pid: u32,
}

impl Leash {
    /// Starts `program` with `arguments`, in and for `folder`, its output going to `folder/log`; as `account` if that
    /// is given.
    pub fn start(
        folder: &Path,
        program: &Path,
        arguments: &[String],
        account: Option<Account>,
        ending: Ending,
    ) -> std::io::Result<Self> {
        let log = std::fs::File::create(folder.join("log"))?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", KEEPER, "keeper"]).arg(folder);
        command.args([ending.signals(), ending.pause_seconds()]).arg(program).args(arguments);
        command.current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        if let Some(Account { uid, gid }) = account {
            command.uid(uid).gid(gid);
        }
        let mut keeper = command.spawn()?;
        let hold = keeper.stdin.take();
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().expect("stdout is piped")).read_line(&mut line)?;
        let pid = line.trim().parse().map_err(|_| std::io::Error::other("the keeper named no pid"))?;
        Ok(Self { keeper, hold, pid })
    }

    /// The process on the leash.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        drop(self.hold.take());
        // Nothing is left to do about a keeper that cannot be waited for.
        let _ = self.keeper.wait();
    }
}
