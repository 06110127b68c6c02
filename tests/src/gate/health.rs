//! What a process tells of its health.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use super::{Gate, PATIENCE, set};
use crate::{port, wait_for};

/// Where a process tells of its health, on 127.0.0.1.
#[derive(Clone, Copy, Debug)]
pub struct Health(pub u16);

impl Health {
    /// The status and the body of the answer to a request, such as `GET /readyz`.
    #[must_use]
    #[track_caller]
    pub fn ask(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.0)).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let request = format!("{request} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it is taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it is answered");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.expect("a status"), body.to_owned())
    }

    /// Waits until the process is ready.
    #[track_caller]
    pub fn wait_until_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        wait_for("the process is ready", 2 * PATIENCE, || {
            let (status, why) = self.ask("GET /readyz");
            assert!(status == 200 || Instant::now() < deadline, "it is not ready within {PATIENCE:?}: {why}");
            (status == 200).then_some(())
        });
    }

    /// Waits until it is not, and gives why.
    #[must_use]
    #[track_caller]
    pub fn wait_until_unready(&self) -> String {
        wait_for("the process is not ready", PATIENCE, || {
            let (status, body) = self.ask("GET /readyz");
            (status == 503).then_some(body)
        })
    }

    /// Waits until a process of which all brokers are there has read the orders since now. What it asked before may be
    /// answered late, and it lets nobody in meanwhile.
    #[track_caller]
    pub fn wait_until_orders_are_read(&self) {
        let now = Instant::now();
        wait_for("the process has read the orders since", PATIENCE, || {
            let lag = self.metric("retrace_control_lag_seconds");
            (lag < now.elapsed().as_secs_f64()).then_some(())
        });
    }

    /// The value of a metric, by its name and labels as they are written; 0 if it is not there.
    #[must_use]
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        self.told(name).unwrap_or_default()
    }

    /// The same, or `None` if it is not there.
    #[must_use]
    #[track_caller]
    pub fn told(&self, name: &str) -> Option<f64> {
        let text = self.ask("GET /metrics").1;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        Some(value.parse().expect("a number"))
    }

    /// The sum of a metric over all its labels.
    #[must_use]
    #[track_caller]
    pub fn sum(&self, name: &str) -> f64 {
        sum(&self.ask("GET /metrics").1, name)
    }
}

/// The sum of a metric's values in what a process tells of them.
fn sum(text: &str, name: &str) -> f64 {
    let of_metric = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
    text.lines().filter(of_metric).map(|line| value(line).expect("a number")).sum()
}

impl Gate {
    /// Lets the gate tell of its health, at a port of its own.
    pub fn tell_health(&self) -> Health {
        let port = port::free();
        self.edit(|config| set(config, &["health", "listen"], format!("127.0.0.1:{port}")));
        Health(port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_a_metric_is_over_its_labels_and_of_no_other() {
        let text = "# TYPE lag gauge\nlag{topic=\"a b\",partition=\"0\"} 3\nlag{topic=\"a b\",partition=\"1\"} 4\n\
                    lag_max 9\nrows_total 12\n";
        assert_eq!((sum(text, "lag"), sum(text, "rows_total"), sum(text, "rows")), (7.0, 12.0, 0.0));
    }
}
