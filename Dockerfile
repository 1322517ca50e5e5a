# The demo and the command line; docs/serving.md says how it is run.
#
#     docker build --tag difface .                            # for CPUs
#     docker build --tag difface --build-arg DEVICE=cuda .    # for NVIDIA GPUs

FROM python:3.11-slim AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
ARG DEVICE=cpu
ENV PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/cache

# torch in a layer of its own, which stays when the package changes.
COPY constraints.txt /
RUN case "$DEVICE" in \
        cpu) pip install --constraint /constraints.txt --index-url https://download.pytorch.org/whl/cpu torch ;; \
        cuda) pip install --constraint /constraints.txt torch ;; \
        *) echo "DEVICE is $DEVICE; it must be cpu or cuda" >&2; exit 1 ;; \
    esac
COPY --from=wheel /wheels /wheels
RUN pip install --constraint /constraints.txt "$(echo /wheels/*.whl)[demo,heif,video]"

# Both folders can be written by whatever user it is run as.
RUN useradd --create-home --uid 1000 difface && mkdir --mode=1777 /cache /work
VOLUME /cache
WORKDIR /work
USER 1000

STOPSIGNAL SIGINT
EXPOSE 7860
HEALTHCHECK --start-period=2m --timeout=10s \
    CMD ["python", "-c", "import httpx; httpx.get('http://127.0.0.1:7860/health', trust_env=False).raise_for_status()"]
ENTRYPOINT ["difface"]
CMD ["demo", "--host", "0.0.0.0", "--port", "7860"]
