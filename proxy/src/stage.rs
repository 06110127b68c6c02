use tokio::sync::watch;

/// How far a process is on its way out. It goes forward only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Not at all.
    #[default]
    Serving,
    /// What has begun is finished, and nothing else begins.
    Draining,
    /// Everything ends now.
    Stopping,
}

impl Stage {
    /// Resolves once the process is beyond `self`: where it is then. When nobody is left who could say so, it stops.
    pub(crate) async fn passed(self, mut stage: watch::Receiver<Self>) -> Self {
        stage.wait_for(|stage| *stage > self).await.map_or(Self::Stopping, |stage| *stage)
    }
}
