# The controller's image: `buildah bud .` or `docker build .`, from the lock file and Debian's packages alone.
# BASE is any image of Debian 12, made by debootstrap for instance; pin it by digest for a release.
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS packages
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 python3-venv
RUN python3 -m venv /opt/venv
COPY requirements.lock /build/
# Wheels only: nothing is compiled, and what is installed is what the lock file's hashes say.
RUN /opt/venv/bin/pip install --no-cache-dir --no-compile --disable-pip-version-check \
      --only-binary :all: --require-hashes --requirement /build/requirements.lock
COPY pyproject.toml README.md LICENSE /build/
COPY controller /build/controller
COPY providers /build/providers
COPY converters /build/converters
# Without the twin of the whole Kubernetes client that is for asyncio: 68 MB which nothing here imports.
# Bytecode goes in now, since the root file system is read-only later. What keeps it the same from build to build:
# hashes of sources instead of their times (also for what pip has compiled on its way), one order of what sets hold.
RUN /opt/venv/bin/pip install --no-cache-dir --no-compile --no-index --no-deps --no-build-isolation /build \
 && /opt/venv/bin/pip uninstall --yes pip \
 && rm -r /opt/venv/lib/python3.11/site-packages/kubernetes/aio \
 && PYTHONHASHSEED=0 python3 -m compileall -q -f --invalidation-mode unchecked-hash /opt/venv/lib

FROM ${BASE}
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3 qemu-utils \
 && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* \
 && echo 'controller:x:65532:65532:VM import controller:/tmp:/usr/sbin/nologin' >> /etc/passwd \
 && echo 'controller:x:65532:' >> /etc/group
COPY --from=packages /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:/usr/bin:/bin HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
LABEL org.opencontainers.image.title="Harvester VM import controller" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 65532:65532
EXPOSE 8080 9090
ENTRYPOINT ["vm-import-controller"]
