# docker build -t falcon . && docker run -p 7860:7860 -v falcon-models:/data falcon
FROM python:3.11-slim

# Spaces run containers as the user with this number.
RUN useradd --create-home --uid 1000 user && install --directory --owner user /home/user/app /data
USER user
ENV HOME=/home/user \
    PATH=/home/user/.local/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    FALCON_HOST=0.0.0.0 \
    FALCON_MODELS_DIR=/data/models \
    XDG_CACHE_HOME=/data/cache
WORKDIR /home/user/app

# Before the rest, so that a change to the code installs nothing anew. With PyTorch's index of CPU wheels there, the image
# is gigabytes smaller.
ARG PIP_EXTRA_INDEX_URL
COPY --chown=user requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt

COPY --chown=user . .

# Converted models and compiled kernels.
VOLUME /data
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=10s --start-period=2m \
    CMD ["python", "-c", "from http.client import HTTPConnection as To; from os import environ; it = To('127.0.0.1', int(environ.get('FALCON_PORT', 7860)), timeout=9); it.request('GET', '/'); exit(it.getresponse().status != 200)"]
CMD ["python", "app.py"]
