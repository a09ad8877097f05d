# One image for every process of ours: Node runs the TypeScript, so there is nothing to build but the dependencies and
# the C programs of the probes.
FROM node:24.21.0-bookworm-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
COPY contract/package.json contract/
COPY venue/package.json venue/
COPY agent/package.json agent/
COPY bot/package.json bot/
COPY probes/package.json probes/
COPY collector/package.json collector/
COPY alerts/package.json alerts/
# Not run here, but the lockfile speaks of them.
COPY dashboards/package.json dashboards/
COPY cli/package.json cli/
COPY test/package.json test/
# Workspaces by name: the root's own dependency is Node itself, which this image is made of.
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund \
      -w contract -w venue -w agent -w bot -w probes -w collector -w alerts

# From the same base as the image, so that their libc is there; libcrypto goes into the program.
FROM node:24.21.0-bookworm-slim AS native
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev libssl-dev linux-libc-dev make
WORKDIR /probes
COPY probes/native native/
COPY probes/runtimes/order.c runtimes/
RUN make -C native OUT=/build CRYPTO=-l:libcrypto.a /build/bypass /build/jitter /build/order

FROM node:24.21.0-bookworm-slim
ENV NODE_ENV=production NODE_COMPILE_CACHE=/app/.compile-cache MALLOC_ARENA_MAX=2
WORKDIR /app
# Owned by the user of the processes, so that volumes mounted there are, too.
RUN mkdir -p /keys /token /data .compile-cache && chown node:node /keys /token /data .compile-cache
COPY --from=dependencies /app/node_modules node_modules/
COPY package.json ./
COPY contract/package.json contract/
COPY contract/src contract/src/
COPY venue/package.json venue/
COPY venue/src venue/src/
COPY agent/package.json agent/
COPY agent/src agent/src/
COPY bot/package.json bot/
COPY bot/src bot/src/
COPY probes/package.json probes/
COPY probes/src probes/src/
COPY probes/prices.json probes/
COPY probes/runtimes probes/runtimes/
COPY --from=native /build probes/native/build/
COPY collector/package.json collector/
COPY collector/src collector/src/
COPY alerts/package.json alerts/
COPY alerts/src alerts/src/
COPY compose/src compose/src/
USER node
# Types are stripped and code is compiled once, here: a process starts in half the time and 20 MB smaller, and the
# cache need not be written to afterwards.
RUN for main in venue/src/sim bot/src probes/src collector/src alerts/src/pager; do node $main/main.ts --help >/dev/null; done \
 && node compose/src/health.ts 2>/dev/null || true
