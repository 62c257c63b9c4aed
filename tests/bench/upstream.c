/* A fake OpenAI upstream that costs next to nothing: one thread, epoll, HTTP/1.1 keep-alive.
 *
 * POST anything answers a chat completion. The body decides how, by words that survive every proxy:
 *   "stream": true          server-sent events, chunked; otherwise one JSON answer of ~300 bytes
 *   "max_tokens": N         content chunks in the stream (default 100); or "max_completion_tokens"
 *   "include_usage": true   a usage chunk before [DONE]
 *   pace=NNms in a message  one token per write every NN ms; without "stream": the answer waits NN ms
 * Un-paced streams send one token per write, as engines do, and take turns. GET answers a model list or {"status":"ok"}.
 *
 * Usage: upstream PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FDS = 16384, IN_SIZE = 65536, OUT_SIZE = 16384, WORDS = 8, NEVER = -1 };

#define CHUNK_HEAD "data: {\"id\":\"chatcmpl-benchbenchbenchbench00000001\",\"object\":\"chat.completion.chunk\"," \
                   "\"created\":1760000000,\"model\":\"bench\",\"choices\":["
#define DELTA "{\"index\":0,\"delta\":{%s},\"logprobs\":null,\"finish_reason\":%s}"
#define USAGE "{\"prompt_tokens\":12,\"completion_tokens\":%d,\"total_tokens\":%d}"

static const char STREAM_HEAD[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                                  "cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";
static const char *const words[WORDS] = {" the", " quick", " brown", " fox", " jumps", " over", " lazy", " dogs"};
static char token_chunks[WORDS][512];
static size_t token_lengths[WORDS];

struct conn {
    int fd;
    bool answering, streaming, include_usage, begun, wants_out;
    int tokens, sent, pace_ms;
    int64_t due;                       /* when the clock gives the next turn, in us; NEVER: no turn by the clock */
    size_t in_len, request_len, out_len, out_off;
    char in[IN_SIZE], out[OUT_SIZE];
};

static struct conn *conns[MAX_FDS];
static int epoll_fd, timer_fd, highest_fd;
static int64_t next_due = NEVER;
static unsigned paced_streams;

static int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static size_t frame(char *to, const char *event) {
    return (size_t)sprintf(to, "%zx\r\n%s\r\n", strlen(event), event);
}

static void add_event(struct conn *c, const char *event) { c->out_len += frame(c->out + c->out_len, event); }

static void prepare_tokens(void) {
    for (int i = 0; i < WORDS; i++) {
        char delta[64], event[512];
        snprintf(delta, sizeof delta, "\"content\":\"%s\"", words[i]);
        snprintf(event, sizeof event, CHUNK_HEAD DELTA "]}\n\n", delta, "null");
        token_lengths[i] = frame(token_chunks[i], event);
    }
}

static void add_token(struct conn *c) {
    int word = c->sent++ % WORDS;
    memcpy(c->out + c->out_len, token_chunks[word], token_lengths[word]);
    c->out_len += token_lengths[word];
}

static void add_stream_start(struct conn *c) {
    char event[512];
    memcpy(c->out, STREAM_HEAD, c->out_len = sizeof STREAM_HEAD - 1);
    snprintf(event, sizeof event, CHUNK_HEAD DELTA "]}\n\n", "\"role\":\"assistant\",\"content\":\"\"", "null");
    add_event(c, event);
}

static void add_stream_end(struct conn *c) {
    char event[512];
    snprintf(event, sizeof event, CHUNK_HEAD DELTA "]}\n\n", "", "\"stop\"");
    add_event(c, event);
    if (c->include_usage) {
        snprintf(event, sizeof event, CHUNK_HEAD "],\"usage\":" USAGE "}\n\n", c->tokens, c->tokens + 12);
        add_event(c, event);
    }
    add_event(c, "data: [DONE]\n\n");
    memcpy(c->out + c->out_len, "0\r\n\r\n", 5);
    c->out_len += 5;
}

static void add_json(struct conn *c, const char *body) {
    c->out_len = (size_t)sprintf(c->out, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s",
                                 strlen(body), body);
}

static void add_completion(struct conn *c) {
    add_json(c, "{\"id\":\"chatcmpl-benchbenchbenchbench00000001\",\"object\":\"chat.completion\",\"created\":1760000000,"
                "\"model\":\"bench\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":"
                "\"The quick brown fox jumps over the lazy dogs.\"},\"logprobs\":null,\"finish_reason\":\"stop\"}],"
                "\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":10,\"total_tokens\":22}}");
}

static void hang_up(struct conn *c) {
    close(c->fd);
    conns[c->fd] = NULL;
    free(c);
}

static void want_out(struct conn *c, bool wanted) {
    if (c->wants_out == wanted) return;
    c->wants_out = wanted;
    struct epoll_event e = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0), .data.fd = c->fd};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
}

static void arm(int64_t when) {
    struct itimerspec at = {.it_value = {.tv_sec = when / 1000000, .tv_nsec = when % 1000000 * 1000}};
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
    next_due = when;
}

static void be_due(struct conn *c, int64_t when) {
    c->due = when;
    if (next_due == NEVER || when < next_due) arm(when);
}

/* Puts the next piece of the answer into the (empty) out buffer; false when nothing is left to say. */
static bool next_piece(struct conn *c) {
    if (!c->streaming) {
        if (c->begun) return false;
        add_completion(c);
        return c->begun = true;
    }
    if (c->begun && c->sent > c->tokens) return false;
    if (!c->begun) add_stream_start(c);
    else if (c->sent < c->tokens) add_token(c);
    if (c->begun && c->sent == c->tokens) {
        add_stream_end(c);
        c->sent++;                     /* past the last token: the end has been said */
    }
    return c->begun = true;
}

/* Writes what is pending; false when the peer is gone. */
static bool flush(struct conn *c) {
    ssize_t n = send(c->fd, c->out + c->out_off, c->out_len - c->out_off, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) return false;
    if (n > 0) c->out_off += (size_t)n;
    if (c->out_off == c->out_len) c->out_off = c->out_len = 0;
    return true;
}

static void read_request(struct conn *c);

static void finish(struct conn *c) {
    memmove(c->in, c->in + c->request_len, c->in_len - c->request_len);
    c->in_len -= c->request_len;
    c->answering = false;
    want_out(c, false);
    if (c->in_len) read_request(c);
}

/* One turn for a connection that is answering: at most one piece, so that the streams interleave. */
static void take_turn(struct conn *c) {
    if (!c->out_len && !next_piece(c)) return finish(c);
    if (!flush(c)) return hang_up(c);
    if (c->out_len) return want_out(c, true);
    bool over = c->streaming ? c->sent > c->tokens : c->begun;
    if (over) return finish(c);
    want_out(c, !c->pace_ms);          /* a paced stream waits for the clock, the others for their next turn */
}

static const char *find(const char *from, size_t len, const char *word) {
    const char *at = memmem(from, len, word, strlen(word));
    return at ? at + strlen(word) : NULL;
}

/* The value after a JSON key, past `": `; NULL when the key is absent. */
static const char *value_of(const char *body, size_t len, const char *key) {
    const char *at = find(body, len, key);
    while (at && (*at == ':' || *at == ' ')) at++;
    return at;
}

static void answer_chat(struct conn *c, const char *body, size_t len) {
    const char *stream = value_of(body, len, "\"stream\""), *usage = value_of(body, len, "\"include_usage\"");
    const char *tokens = value_of(body, len, "\"max_tokens\""), *pace = find(body, len, "pace=");
    if (!tokens) tokens = value_of(body, len, "\"max_completion_tokens\"");
    c->answering = true;
    c->begun = false;
    c->streaming = stream && *stream == 't';
    c->include_usage = usage && *usage == 't';
    c->tokens = tokens ? atoi(tokens) : 100;
    c->sent = 0;
    c->pace_ms = pace ? atoi(pace) : 0;
    c->due = NEVER;
    if (!c->pace_ms) return take_turn(c);
    if (!c->streaming) return be_due(c, now_us() + c->pace_ms * 1000LL);
    /* Spread the streams over the interval, so that their tokens do not come in step. */
    double phase = paced_streams++ * 0.6180339887;
    be_due(c, now_us() + (int64_t)((phase - (int64_t)phase) * c->pace_ms * 1000) + 1);
    take_turn(c);
}

static void answer_get(struct conn *c, bool models) {
    add_json(c, models ? "{\"object\":\"list\",\"data\":[{\"id\":\"bench\",\"object\":\"model\",\"created\":1760000000,"
                         "\"owned_by\":\"bench\"}]}"
                       : "{\"status\":\"ok\"}");
    c->answering = c->begun = true;
    c->streaming = false;
    c->pace_ms = 0;
    take_turn(c);
}

static void read_request(struct conn *c) {
    c->in[c->in_len] = 0;
    const char *body = find(c->in, c->in_len, "\r\n\r\n");
    if (!body) return;
    size_t head_len = (size_t)(body - c->in), have = c->in_len - head_len;
    const char *length = strcasestr(c->in, "\r\ncontent-length:"), *chunked = strcasestr(c->in, "\r\ntransfer-encoding: chunked");
    size_t body_len = length && length < body ? strtoul(length + 17, NULL, 10) : 0;
    if (chunked && chunked < body) {
        if (have < 5 || memcmp(c->in + c->in_len - 5, "0\r\n\r\n", 5)) return;
        body_len = have;
    }
    if (have < body_len) return;
    c->request_len = head_len + body_len;
    if (*c->in == 'P') answer_chat(c, body, body_len);
    else answer_get(c, strstr(c->in, "/models") && strstr(c->in, "/models") < body);
}

static void readable(struct conn *c) {
    ssize_t n = recv(c->fd, c->in + c->in_len, IN_SIZE - 1 - c->in_len, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) return hang_up(c);
    c->in_len += (size_t)n;
    if (!c->answering) read_request(c);
}

static void accept_all(int listener) {
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        struct conn *c = fd < MAX_FDS ? malloc(sizeof *c) : NULL;
        if (!c) { close(fd); continue; }
        memset(c, 0, offsetof(struct conn, in));
        c->fd = fd;
        c->due = NEVER;
        conns[fd] = c;
        if (fd > highest_fd) highest_fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.fd = fd});
    }
}

/* Gives every connection whose moment has come its turn, then waits for the next moment. */
static void run_due(void) {
    int64_t now = now_us(), soonest = NEVER;
    next_due = NEVER;
    for (int fd = 0; fd <= highest_fd; fd++) {
        struct conn *c = conns[fd];
        if (!c || c->due == NEVER) continue;
        if (c->due <= now) {
            int64_t was = c->due;
            c->due = c->streaming ? was + c->pace_ms * 1000LL : NEVER;
            take_turn(c);
            if (conns[fd] == c && !c->answering) c->due = NEVER;
        }
        if (conns[fd] == c && c->due != NEVER && (soonest == NEVER || c->due < soonest)) soonest = c->due;
    }
    next_due = NEVER;
    if (soonest != NEVER) arm(soonest);
}

int main(int argc, char **argv) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    at.sin_port = htons((uint16_t)(argc > 1 ? atoi(argv[1]) : 0));
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) return perror("upstream"), 1;
    prepare_tokens();
    epoll_fd = epoll_create1(0);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN, .data.fd = listener});
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer_fd, &(struct epoll_event){.events = EPOLLIN | EPOLLET, .data.fd = timer_fd});
    for (struct epoll_event events[256];;) {
        int n = epoll_wait(epoll_fd, events, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) { accept_all(listener); continue; }
            if (fd == timer_fd) continue;
            if (conns[fd] && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(conns[fd]);
            if (conns[fd] && events[i].events & EPOLLOUT && conns[fd]->answering) take_turn(conns[fd]);
        }
        if (next_due != NEVER && next_due <= now_us()) run_due();
    }
}
