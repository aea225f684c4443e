/* libwebsockets' echo for script/bench: each message that comes is sent back, with one thread.
 * Debian has the library, and a test server that has no echo.
 *
 *   bench_lws_echo PORT [--uv] [--tls CERT KEY] [--deflate]
 *
 * serves on 127.0.0.1:PORT until it is killed. It waits with poll(2), as the library does unless
 * told otherwise, or with libuv: the one is better if most connections are busy, the other if not.
 */
#include <libwebsockets.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct message {
  struct message* next;
  size_t size;
  enum lws_write_protocol kind;
  unsigned char bytes[]; /* LWS_PRE before them is the library's own */
};

struct client {
  struct message* coming; /* as far as it has come */
  struct message* first;  /* of those that wait to be sent */
  struct message* last;
};

static void enqueue(struct client* client, struct message* message) {
  if (client->last != NULL) {
    client->last->next = message;
  } else {
    client->first = message;
  }
  client->last = message;
}

static struct message* take_first(struct client* client) {
  struct message* message = client->first;
  client->first = message->next;
  if (client->first == NULL) client->last = NULL;
  return message;
}

/* The library hands a message over in pieces, as they come from the network. */
static int receive(struct lws* socket, struct client* client, const void* bytes, size_t size) {
  const size_t old_size = client->coming != NULL ? client->coming->size : 0;
  const size_t frame_left = lws_remaining_packet_payload(socket);
  struct message* message =
      realloc(client->coming, sizeof *message + LWS_PRE + old_size + size + frame_left);
  if (message == NULL) return -1;
  memcpy(message->bytes + LWS_PRE + old_size, bytes, size);
  message->size = old_size + size;
  client->coming = message;
  if (frame_left > 0 || !lws_is_final_fragment(socket)) return 0;

  client->coming = NULL;
  message->next = NULL;
  message->kind = lws_frame_is_binary(socket) ? LWS_WRITE_BINARY : LWS_WRITE_TEXT;
  enqueue(client, message);
  lws_callback_on_writable(socket);
  return 0;
}

static int send_waiting(struct lws* socket, struct client* client) {
  while (client->first != NULL && !lws_send_pipe_choked(socket)) {
    struct message* message = take_first(client);
    const int size = (int)message->size;
    const int written =
        lws_write(socket, message->bytes + LWS_PRE, message->size, message->kind);
    free(message);
    if (written < size) return -1;
  }
  if (client->first != NULL) lws_callback_on_writable(socket);
  return 0;
}

static int on_event(struct lws* socket, enum lws_callback_reasons reason, void* user, void* in,
                    size_t size) {
  struct client* client = user;
  switch (reason) {
    case LWS_CALLBACK_RECEIVE:
      return receive(socket, client, in, size);
    case LWS_CALLBACK_SERVER_WRITEABLE:
      return send_waiting(socket, client);
    case LWS_CALLBACK_CLOSED:
      free(client->coming);
      while (client->first != NULL) free(take_first(client));
      return 0;
    default:
      return 0;
  }
}

/* Returns whether they were understood. */
static bool read_options(int argc, char** argv, struct lws_context_creation_info* info) {
  /* It keeps its context, as the gateway's mode `dedicated`: what it says here is what a client of it
   * would offer, and as a server it does as it is asked. */
  static const struct lws_extension deflate[] = {
      {"permessage-deflate", lws_extension_callback_pm_deflate, "permessage-deflate"},
      {NULL, NULL, NULL},
  };
  if (argc < 2) return false;
  info->port = atoi(argv[1]);
  for (int i = 2; i < argc; ++i) {
    if (strcmp(argv[i], "--deflate") == 0) {
      info->extensions = deflate;
    } else if (strcmp(argv[i], "--uv") == 0) {
      info->options |= LWS_SERVER_OPTION_LIBUV;
    } else if (strcmp(argv[i], "--tls") == 0 && i + 2 < argc) {
      info->options |= LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT;
      info->ssl_cert_filepath = argv[++i];
      info->ssl_private_key_filepath = argv[++i];
    } else {
      return false;
    }
  }
  return true;
}

int main(int argc, char** argv) {
  const struct lws_protocols protocols[] = {
      {.name = "echo",
       .callback = on_event,
       .per_session_data_size = sizeof(struct client),
       .rx_buffer_size = 65536},
      {.name = NULL},
  };
  lws_set_log_level(LLL_ERR, NULL);
  struct lws_context_creation_info info;
  memset(&info, 0, sizeof info);
  if (!read_options(argc, argv, &info)) return 2;
  info.iface = "127.0.0.1";
  info.protocols = protocols;
  info.pt_serv_buf_size = 65536;
  struct lws_context* context = lws_create_context(&info);
  if (context == NULL) return 1;
  /* With libuv the library has a handler of its own, which does not end it. */
  signal(SIGTERM, SIG_DFL);
  while (lws_service(context, 0) >= 0) {
  }
  lws_context_destroy(context);
  return 0;
}
