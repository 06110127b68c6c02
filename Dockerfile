# One image for every service; its command says which one runs. Nothing in it is secret.

# The channel of rust-toolchain.toml, which is not copied: with it rustup would fetch the lints as well.
ARG RUST=1.95.0

FROM rust:${RUST}-slim-bookworm AS build
# What of scripts/setup a build needs.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ libclang-dev libssl-dev make pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# `dist` makes a smaller binary, and takes much longer and more memory.
ARG PROFILE=release
# The whole workspace is named so that dependencies have the features that the tests run with.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/target \
    CARGO_TARGET_DIR=/target cargo build --locked --workspace --bin retrace --profile "$PROFILE" \
    && strip --strip-debug -o /retrace "/target/$PROFILE/retrace"

FROM debian:bookworm-20260803-slim
# librdkafka takes OpenSSL's libraries, deploy/init its command.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libssl3 openssl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin retrace \
    && install -d -o retrace -g retrace -m 0700 /var/lib/retrace \
    && install -d -o retrace -g retrace -m 0750 /state \
    && for volume in gateway proxy query ingest kafka store target client data; do \
    install -d -o retrace -g retrace -m 0750 "/state/$volume"; done
COPY --from=build /retrace /usr/local/bin/retrace
COPY --chmod=0755 deploy/ready /usr/local/bin/retrace-ready
USER 10001:10001
# Docker takes SIGHUP for a stop as well, and gives up starting again what then ends, unless an image says what stops it.
STOPSIGNAL SIGTERM
ENTRYPOINT ["retrace"]
CMD ["--help"]
