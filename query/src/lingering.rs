use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a client may go on sending after the last word to it.
const LINGER_MAX: Duration = Duration::from_secs(1);

/// A stream that, once shut down, reads on until its peer has closed too, and forgets what it reads.
///
/// A socket that is closed with bytes unread resets the connection, and with it what its peer has not read yet: the end of
/// an answer, or the sentence that says why there is none (RFC 9112, section 9.6).
#[derive(Debug)]
pub(crate) struct Lingering<S> {
    stream: S,
    /// Once it is shut down.
    until: Option<Pin<Box<Sleep>>>,
}

impl<S> Lingering<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, until: None }
    }

    pub(crate) fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, until } = self.get_mut();
        let until = match until {
            Some(until) => until,
            None => {
                ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
                until.insert(Box::pin(sleep(LINGER_MAX)))
            }
        };
        if until.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut bytes = [0; 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer));
            // A peer that reset the connection has closed it as well.
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn it_takes_what_comes_after_the_last_word_until_the_peer_closes() {
        let (ours, mut theirs) = duplex(16);
        let closing = tokio::spawn(async move {
            let mut stream = Lingering::new(ours);
            stream.write_all(b"the last").await?;
            stream.shutdown().await
        });
        // More than fits in between, so that it goes through only if it is read.
        theirs.write_all(&[7; 4096]).await.unwrap();
        let mut read = Vec::new();
        theirs.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"the last");
        assert!(!closing.is_finished());
        drop(theirs);
        closing.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_peer_that_never_closes_is_not_waited_for_longer_than_that() {
        let (ours, mut theirs) = duplex(16);
        let closing = tokio::spawn(async move { Lingering::new(ours).shutdown().await });
        let sending = async { while theirs.write_all(&[7; 16]).await.is_ok() {} };
        timeout(10 * LINGER_MAX, sending).await.unwrap();
        closing.await.unwrap().unwrap();
    }
}
