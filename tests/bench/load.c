/* An HTTP/1.1 load generator: one thread, epoll, a fixed number of keep-alive connections sending the same request
 * again and again. It checks every answer (status, whole stream, number of tokens) and prints one JSON report.
 *
 * Usage: load --port P --request FILE [--connections C] [--requests N] [--stream --tokens T] [--ramp-ms R]
 *             [--hangup-every K] [--seconds S]
 *   --tokens T         a stream is right when it brought T content chunks and [DONE]
 *   --ramp-ms R        connections start over R ms instead of all at once
 *   --hangup-every K   every K-th stream is dropped after half its tokens
 *   --seconds S        stop after S seconds; what is in flight then is reported as open
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 8192, HEAD_SIZE = 16384, LINE_SIZE = 16384, READ_SIZE = 65536 };
enum state { CLOSED, IDLE, HEAD, BODY };
enum chunk { SIZE_LINE, DATA, DATA_END, TRAILER };

struct conn {
    int fd;
    enum state state;
    enum chunk chunk;
    bool chunked, fresh, hangs_up, done;
    int status, tokens;
    int64_t started, first_token;
    size_t left;                       /* bytes left of the body, or of the chunk; SIZE_MAX: until the peer closes */
    size_t head_len, line_len, size_len;
    char head[HEAD_SIZE], line[LINE_SIZE], size[32];
};

static struct { int port, connections, requests, tokens, ramp_ms, hangup_every, seconds; bool stream; const char *file; } opt =
    {.connections = 1, .requests = 1, .seconds = 300};
static struct { int asked, ok, status, cut, wrong, connection, hung_up; long long tokens; char first_error[200]; } count;
static struct conn *conns[MAX_CONNECTIONS];
static int64_t *latencies, *first_tokens;
static char *request;
static size_t request_len;
static int epoll_fd;

static int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static int finished(void) { return count.ok + count.status + count.cut + count.wrong + count.connection + count.hung_up; }

static void disconnect(struct conn *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    c->state = CLOSED;
}

static void fail(struct conn *c, int *kind, const char *what) {
    if (!count.first_error[0]) {
        int n = snprintf(count.first_error, sizeof count.first_error, "%s: %.*s %.*s", what, (int)strcspn(c->head, "\r"), c->head,
                         (int)c->line_len, c->line);
        if (n >= (int)sizeof count.first_error) n = sizeof count.first_error - 1;
        for (char *p = count.first_error; *p; p++) if (*p == '"' || *p == '\\' || *p < ' ') *p = '\'';
    }
    ++*kind;
    disconnect(c);
}

static bool connect_to_target(struct conn *c) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&at, sizeof at)) return false;
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &(struct epoll_event){.events = EPOLLIN, .data.ptr = c});
    return c->fresh = true;
}

static void send_request(struct conn *c) {
    if (c->state == CLOSED && !connect_to_target(c)) return fail(c, &count.connection, "connect");
    c->head_len = c->line_len = c->size_len = 0;
    c->head[0] = 0;
    c->state = HEAD;
    c->status = c->tokens = 0;
    c->done = false;
    c->first_token = 0;
    if (send(c->fd, request, request_len, MSG_NOSIGNAL) != (ssize_t)request_len) {
        if (c->fresh) return fail(c, &count.connection, "send");
        disconnect(c);                 /* the peer closed an idle connection: once more on a new one */
        send_request(c);
    }
}

static void next_request(struct conn *c) {
    while (count.asked < opt.requests) {
        int number = ++count.asked;
        c->started = now_us();
        c->hangs_up = opt.hangup_every && number % opt.hangup_every == 0;
        send_request(c);
        if (c->state != CLOSED) return;
    }
}

static void complete(struct conn *c) {
    c->fresh = false;
    if (c->status != 200) fail(c, &count.status, "status");
    else if (opt.stream && !c->done) fail(c, &count.cut, "no [DONE]");
    else if (c->tokens != opt.tokens) fail(c, &count.wrong, "wrong number of tokens");
    else {
        latencies[count.ok] = now_us() - c->started;
        first_tokens[count.ok++] = c->first_token - c->started;
        c->state = IDLE;
        if (c->fd < 0 || strcasestr(c->head, "\r\nconnection: close")) disconnect(c);
    }
    next_request(c);
}

/* Does this text carry a piece of the answer? Works for one event of a stream and for a whole JSON answer. */
static bool has_content(const char *text, size_t len) {
    const char *key = memmem(text, len, "\"content\":", 10), *end = text + len;
    if (!key) return false;
    for (key += 10; key < end && *key == ' ';) key++;
    return key + 1 < end && key[0] == '"' && key[1] != '"';
}

static void read_line(struct conn *c, const char *line, size_t len) {
    if (opt.stream && (len < 5 || memcmp(line, "data:", 5))) return;
    if (has_content(line, len)) {
        if (!c->tokens++) c->first_token = now_us();
        count.tokens++;
    } else if (memmem(line, len, "[DONE]", 6)) c->done = true;
}

/* Takes body bytes, in pieces of any size, line by line; an answer without a last newline is one line. */
static void read_body(struct conn *c, const char *p, size_t n) {
    for (const char *end = p + n, *nl; p < end; p = nl + 1) {
        nl = memchr(p, '\n', (size_t)(end - p));
        size_t part = (size_t)((nl ? nl : end) - p);
        if (nl && !c->line_len) { read_line(c, p, part); continue; }
        if (part > LINE_SIZE - c->line_len) part = LINE_SIZE - c->line_len;
        memcpy(c->line + c->line_len, p, part);
        c->line_len += part;
        if (!nl) return;
        read_line(c, c->line, c->line_len);
        c->line_len = 0;
    }
}

static void end_of_body(struct conn *c) {
    if (c->line_len) read_line(c, c->line, c->line_len);
    complete(c);
}

/* Takes what follows the head of a chunked answer; true when the answer is complete. */
static bool read_chunks(struct conn *c, const char *p, size_t n) {
    for (const char *end = p + n; p < end;) {
        if (c->chunk == DATA) {
            size_t part = (size_t)(end - p) < c->left ? (size_t)(end - p) : c->left;
            read_body(c, p, part);
            p += part;
            if (!(c->left -= part)) c->chunk = DATA_END;
            continue;
        }
        char byte = *p++;
        if (byte != '\n') { if (c->size_len < sizeof c->size - 1) c->size[c->size_len++] = byte; continue; }
        c->size[c->size_len] = 0;
        bool blank = !c->size_len || c->size[0] == '\r';
        c->size_len = 0;
        if (c->chunk == TRAILER) { if (blank) return true; }
        else if (c->chunk == DATA_END) c->chunk = SIZE_LINE;
        else c->chunk = (c->left = strtoul(c->size, NULL, 16)) ? DATA : TRAILER;
    }
    return false;
}

static void read_payload(struct conn *c, const char *p, size_t n) {
    if (c->chunked) { if (read_chunks(c, p, n)) end_of_body(c); return; }
    if (n > c->left) n = c->left;
    read_body(c, p, n);
    if (c->left != SIZE_MAX && !(c->left -= n)) end_of_body(c);
}

static void read_head(struct conn *c, const char *p, size_t n) {
    size_t had = c->head_len, part = n < HEAD_SIZE - 1 - had ? n : HEAD_SIZE - 1 - had;
    memcpy(c->head + had, p, part);
    c->head[c->head_len += part] = 0;
    char *blank = strstr(c->head, "\r\n\r\n");
    if (!blank) { if (c->head_len == HEAD_SIZE - 1) fail(c, &count.connection, "head too long"); return; }
    blank[2] = 0;
    const char *length = strcasestr(c->head, "\r\ncontent-length:");
    c->status = atoi(c->head + 9);
    c->chunked = strcasestr(c->head, "\r\ntransfer-encoding: chunked") != NULL;
    c->chunk = SIZE_LINE;
    c->left = length ? strtoul(length + 17, NULL, 10) : SIZE_MAX;
    c->state = BODY;
    size_t used = (size_t)(blank + 4 - c->head) - had;
    if (!c->left) end_of_body(c);
    else if (n > used) read_payload(c, p + used, n - used);
}

static void peer_closed(struct conn *c) {
    if (c->state == IDLE) return disconnect(c);
    if (c->state == HEAD && !c->head_len && !c->fresh) { disconnect(c); send_request(c); return; }
    if (c->state == BODY && !c->chunked && c->left == SIZE_MAX) { disconnect(c); return end_of_body(c); }
    fail(c, c->state == BODY ? &count.cut : &count.connection, "closed by peer");
    next_request(c);
}

static void readable(struct conn *c) {
    static char buffer[READ_SIZE];
    ssize_t n = recv(c->fd, buffer, READ_SIZE, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) return peer_closed(c);
    if (c->state == HEAD) read_head(c, buffer, (size_t)n);
    else read_payload(c, buffer, (size_t)n);
    if (c->state == BODY && c->hangs_up && c->tokens >= opt.tokens / 2) {
        count.hung_up++;
        disconnect(c);
        next_request(c);
    }
}

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static double ms_at(const int64_t *sorted, double quantile) {
    return count.ok ? (double)sorted[(int)(quantile * (count.ok - 1) + 0.5)] / 1000 : 0;
}

static void report(int64_t began) {
    int open = 0;
    for (int i = 0; i < opt.connections; i++) open += conns[i]->state == BODY && conns[i]->tokens > 0;
    int64_t wall = now_us() - began;
    qsort(latencies, (size_t)count.ok, sizeof *latencies, by_value);
    qsort(first_tokens, (size_t)count.ok, sizeof *first_tokens, by_value);
    printf("{\"requests\":%d,\"ok\":%d,\"hung_up\":%d,\"open\":%d,\"unfinished\":%d,\"tokens\":%lld,\"wall_s\":%.4f,"
           "\"errors\":{\"status\":%d,\"cut\":%d,\"wrong_tokens\":%d,\"connection\":%d},\"first_error\":\"%s\","
           "\"latency_ms\":{\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"max\":%.3f},\"ttft_ms\":{\"p50\":%.3f,\"p99\":%.3f}}\n",
           count.asked, count.ok, count.hung_up, open, count.asked - finished() - open, count.tokens, (double)wall / 1e6,
           count.status, count.cut, count.wrong, count.connection, count.first_error, ms_at(latencies, .5),
           ms_at(latencies, .9), ms_at(latencies, .99), ms_at(latencies, 1), ms_at(first_tokens, .5), ms_at(first_tokens, .99));
}

static void read_options(int argc, char **argv) {
    static const struct option names[] = {{"port", 1, 0, 'p'}, {"request", 1, 0, 'f'}, {"connections", 1, 0, 'c'},
        {"requests", 1, 0, 'n'}, {"stream", 0, 0, 's'}, {"tokens", 1, 0, 't'}, {"ramp-ms", 1, 0, 'r'},
        {"hangup-every", 1, 0, 'k'}, {"seconds", 1, 0, 'S'}, {0}};
    for (int o; (o = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        int value = optarg ? atoi(optarg) : 0;
        switch (o) {
        case 'p': opt.port = value; break;
        case 'f': opt.file = optarg; break;
        case 'c': opt.connections = value < MAX_CONNECTIONS ? value : MAX_CONNECTIONS; break;
        case 'n': opt.requests = value; break;
        case 's': opt.stream = true; break;
        case 't': opt.tokens = value; break;
        case 'r': opt.ramp_ms = value; break;
        case 'k': opt.hangup_every = value; break;
        case 'S': opt.seconds = value; break;
        default: exit(2);
        }
    }
    if (!opt.stream) opt.tokens = 1;   /* the one content of the one answer */
}

static void read_request_file(void) {
    FILE *f = opt.file ? fopen(opt.file, "rb") : NULL;
    if (!f) { perror("--request"); exit(2); }
    request = malloc(1 << 20);
    request_len = fread(request, 1, 1 << 20, f);
    fclose(f);
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    read_request_file();
    epoll_fd = epoll_create1(0);
    latencies = calloc((size_t)opt.requests, sizeof *latencies);
    first_tokens = calloc((size_t)opt.requests, sizeof *first_tokens);
    for (int i = 0; i < opt.connections; i++) {
        conns[i] = calloc(1, sizeof **conns);
        conns[i]->fd = -1;
        if (!opt.ramp_ms && !connect_to_target(conns[i])) return perror("connect"), 1;
        if (!opt.ramp_ms) conns[i]->state = IDLE;
    }
    int64_t began = now_us(), until = began + opt.seconds * 1000000LL, now = began;
    for (int started = 0; now < until && finished() < opt.requests; now = now_us()) {
        while (started < opt.connections && now >= began + opt.ramp_ms * 1000LL * started / opt.connections) next_request(conns[started++]);
        struct epoll_event events[256];
        int n = epoll_wait(epoll_fd, events, 256, started < opt.connections ? 1 : 100);
        for (int i = 0; i < n; i++) readable(events[i].data.ptr);
    }
    report(began);
}
