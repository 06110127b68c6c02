use rdkafka::error::RDKafkaErrorCode;

/// Why the log on Kafka could not be opened. No message holds an option's value but for servers and topics.
#[derive(Debug, thiserror::Error)]
pub enum KafkaOpenError {
    /// Nowhere to connect to.
    #[error("`bootstrap.servers` is not set: name the brokers, as in \"kafka-1:9092,kafka-2:9092\"")]
    NoServers,
    /// An option that the log decides itself.
    #[error("the option `{name}` is not for setting, the log's promises rest on it: remove it")]
    OwnOption {
        /// Its name.
        name: String,
    },
    /// An option that the library does not take.
    #[error("librdkafka does not take the option `{name}`: {reason}")]
    Option {
        /// Its name.
        name: String,
        /// What the library says of it.
        reason: String,
    },
    /// No broker answered.
    #[error(
        "no broker of `bootstrap.servers` ({servers}) answered within {seconds} s: {reason}; \
        check the addresses and `security.protocol`"
    )]
    Unreachable {
        /// As configured.
        servers: String,
        /// How long it was tried.
        seconds: u64,
        /// The last thing that the library said.
        reason: String,
    },
    /// The brokers do not take the credential.
    #[error(
        "the brokers ({servers}) refused the credential: check `sasl.mechanism`, `sasl.username` and \
        `sasl.password`, or the client certificate"
    )]
    Credential {
        /// As configured.
        servers: String,
    },
    /// The cluster does not let this user do what must be done.
    #[error("the cluster refuses to {act}: {code}; give the user that right, or do it by hand")]
    Refused {
        /// What was asked.
        act: String,
        /// The broker's answer.
        code: RDKafkaErrorCode,
    },
    /// A topic on which the log's promises would not hold.
    #[error("the topic {topic} has {setting} = {found}, but {wanted}")]
    UnsafeTopic {
        /// The topic's name.
        topic: String,
        /// The topic's setting, by Kafka's name.
        setting: &'static str,
        /// What it is.
        found: String,
        /// What it must be and why.
        wanted: &'static str,
    },
    /// The library failed in a way that none of the others is.
    #[error("the log on Kafka could not be opened: {reason}")]
    Other {
        /// What it said.
        reason: String,
    },
}
