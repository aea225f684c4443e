/* Sluice plugins: the C interface, ABI 1.
 *
 * A plugin is a shared library that exports one function, sluice_plugin_entry(). It returns a
 * table of the plugin's functions; the gateway answers with a table of its own, sluice_host. In C++
 * use <sluice/plugin.hpp>, which makes a class of all this.
 *
 * THREADS. The gateway makes one instance of the plugin for each of its workers and for each entry
 * under `plugins:`. Everything about an instance (create, its events, destroy) happens on its
 * worker's thread, so an instance needs no locks. Variables outside of the instance are shared by
 * the workers and do. The functions of sluice_host may be called on the worker's thread only: on
 * another one they do nothing, log an error (ever more rarely) and return SLUICE_WRONG_THREAD, or
 * NULL, or 0, or SLUICE_CLOSED from ready_state(). Only log() may be called on every thread.
 *
 * SOCKETS. A socket is a number, not a pointer. It means one client from on_open to the end of
 * on_close and is never used again; calls with a socket that has ended do nothing and return
 * SLUICE_GONE. So a plugin may keep a socket for as long as it likes. 0 is never a socket.
 *
 * EVENTS. on_open, then any number of on_message and on_drain, then on_close: exactly once, last,
 * and for every socket whose on_open was called, rejected ones included. No event is delivered from
 * inside a call of a function of sluice_host.
 *
 * TEXT AND MEMORY. Text is UTF-8. What is passed with a length need not end with a NUL, and may be
 * NULL if the length is 0. Whoever is passed memory copies what it wants to keep: what a function
 * or an event is given is valid until it returns.
 *
 * COMPATIBILITY. Every struct begins with its size. Within ABI 1 a struct may only grow at its end;
 * whoever is handed one looks at `size` before it uses a field that ABI 1 did not have at first.
 * Everything else that a compiled plugin could notice changes SLUICE_ABI, and the gateway refuses
 * to load a plugin of another ABI. The first two fields of sluice_plugin are the same in every ABI.
 *
 * ERRORS. A C++ plugin lets no exception out of its functions.
 */
#ifndef SLUICE_PLUGIN_H
#define SLUICE_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SLUICE_ABI 1

/* Marks what a plugin exports, also where the rest is compiled with hidden visibility. */
#define SLUICE_EXPORT __attribute__((visibility("default")))

/* One client. Compare with ==; the digits mean nothing. */
typedef uint64_t sluice_socket;

/* The type of a message. */
#define SLUICE_TEXT 1
#define SLUICE_BINARY 2

/* ready_state(), as WebSocket.readyState of a browser. Only moves forward. */
#define SLUICE_CONNECTING 0
#define SLUICE_OPEN 1
#define SLUICE_CLOSING 2
#define SLUICE_CLOSED 3

/* Levels of log(). */
#define SLUICE_LOG_DEBUG 0
#define SLUICE_LOG_INFO 1
#define SLUICE_LOG_WARNING 2
#define SLUICE_LOG_ERROR 3

/* What the functions of sluice_host return. Other than SLUICE_OK: nothing happened. */
#define SLUICE_OK 0
#define SLUICE_GONE (-1)         /* the socket has ended, or never was */
#define SLUICE_WRONG_STATE (-2)  /* ready_state() does not allow the call */
#define SLUICE_INVALID (-3)      /* an argument is not allowed */
#define SLUICE_WRONG_THREAD (-4) /* not the worker's thread */

/* How a socket ended: the fields of a browser's CloseEvent. */
struct sluice_close_event {
  size_t size;
  uint16_t code;      /* 1005: no code was received; 1006: no Close frame at all */
  uint8_t was_clean;  /* 1: both Close frames were exchanged; 0: not */
  const char* reason; /* never NULL */
  size_t reason_size;
};

/* What the gateway does for one instance of a plugin. Handed to create(); valid until destroy()
 * returns. The first argument of every function is the table itself. */
struct sluice_host {
  size_t size;
  uint32_t abi;
  void* gateway; /* the gateway's own: not for plugins */

  /* Writes a line to the gateway's log. On every thread. */
  void (*log)(const struct sluice_host* host, int level, const char* text, size_t size);

  /* The worker's event loop (a uv_loop_t*), for timers and I/O of the plugin's own. Handles on it
   * are closed in destroy(); the loop runs on until their close callbacks have been called. */
  void* (*uv_loop)(const struct sluice_host* host);

  /* --- the request: during on_open ---
   * Each returns text that is valid until on_open returns, and stores its length. What there is not
   * is empty; after on_open, on another thread, or for a socket that is gone it is NULL with length
   * 0. */

  /* The path without the query, normalised: what the route was chosen by. */
  const char* (*path)(const struct sluice_host* host, sluice_socket socket, size_t* size);
  /* Without "?". */
  const char* (*query)(const struct sluice_host* host, sluice_socket socket, size_t* size);
  const char* (*host_name)(const struct sluice_host* host, sluice_socket socket, size_t* size);
  const char* (*origin)(const struct sluice_host* host, sluice_socket socket, size_t* size);
  /* "192.0.2.1:49152", "[2001:db8::1]:49152", "unix". */
  const char* (*client_address)(const struct sluice_host* host, sluice_socket socket, size_t* size);
  /* The name of the route that leads here. */
  const char* (*route)(const struct sluice_host* host, sluice_socket socket, size_t* size);
  /* A header field; names are compared without case, several fields are joined with ", ". */
  const char* (*header)(const struct sluice_host* host, sluice_socket socket, const char* name,
                        size_t name_size, size_t* size);
  /* What stands for {name} in the route's path, percent-decoded. */
  const char* (*parameter)(const struct sluice_host* host, sluice_socket socket, const char* name,
                           size_t name_size, size_t* size);
  /* The subprotocols that the client offers, the preferred one first; empty past the last. */
  const char* (*offered_protocol)(const struct sluice_host* host, sluice_socket socket,
                                  size_t index, size_t* size);

  /* --- the socket --- */

  /* Completes the opening handshake, in on_open or later. Without a protocol (size 0) the
   * subprotocol is the one that the route chose; else it is one that the client offers
   * (SLUICE_INVALID if not, and the socket waits for another answer). Only while CONNECTING. */
  int (*accept)(const struct sluice_host* host, sluice_socket socket, const char* protocol,
                size_t protocol_size);
  /* Refuses it with an HTTP status of 400 to 599. Only while CONNECTING. */
  int (*reject)(const struct sluice_host* host, sluice_socket socket, int status,
                const char* reason, size_t reason_size);

  /* Sends one message; text is valid UTF-8. Only while OPEN. */
  int (*send)(const struct sluice_host* host, sluice_socket socket, int type, const void* data,
              size_t size);
  /* Starts the closing handshake: code 1000 or 3000 to 4999, and a reason of at most 123 bytes.
   * Only while OPEN. */
  int (*close)(const struct sluice_host* host, sluice_socket socket, uint16_t code,
               const char* reason, size_t reason_size);
  /* The plugin cannot go on with this socket: the client sees close code 1011 (or HTTP status 500
   * while CONNECTING); `what` is for the log. Other sockets are not concerned. */
  int (*fail)(const struct sluice_host* host, sluice_socket socket, const char* what,
              size_t what_size);

  /* Stops and resumes on_message: while paused the client is not read, and its bufferedAmount
   * grows. */
  int (*pause)(const struct sluice_host* host, sluice_socket socket);
  int (*resume)(const struct sluice_host* host, sluice_socket socket);

  /* SLUICE_CLOSED for a socket that is gone. */
  int (*ready_state)(const struct sluice_host* host, sluice_socket socket);
  /* The bytes that send() took and the kernel has not yet, frame headers included. */
  size_t (*buffered_amount)(const struct sluice_host* host, sluice_socket socket);
  /* The subprotocol agreed on; empty if none. */
  const char* (*protocol)(const struct sluice_host* host, sluice_socket socket, size_t* size);

  /* One pointer a socket for the plugin's own use, NULL at first. The gateway never looks at what
   * it points to: free it in on_close, where it can still be read. */
  int (*set_user_data)(const struct sluice_host* host, sluice_socket socket, void* user_data);
  void* (*user_data)(const struct sluice_host* host, sluice_socket socket);
};

/* What a plugin does for the gateway. Lives as long as the library is loaded, which is until the
 * process ends: libraries are never unloaded. */
struct sluice_plugin {
  size_t size;  /* sizeof(struct sluice_plugin) */
  uint32_t abi; /* SLUICE_ABI */

  const char* name;    /* for the log; may be NULL */
  const char* version; /* for the log; may be NULL */

  /* Makes an instance. `config` is what stands under `config:` in routes.yaml, as JSON text; "{}"
   * if nothing does. NULL means that it failed: then `error` (room for error_size bytes, with the
   * NUL) says why, and the gateway does not start. Required. */
  void* (*create)(const struct sluice_host* host, const char* config, char* error,
                  size_t error_size);
  /* Ends an instance; each of its sockets has had its on_close. May be NULL. */
  void (*destroy)(void* instance);

  /* A client wants in: call accept() or reject(), now or later. NULL: everyone is accepted. */
  void (*on_open)(void* instance, sluice_socket socket);
  /* A whole message, in `type` SLUICE_TEXT (valid UTF-8) or SLUICE_BINARY. Required. */
  void (*on_message)(void* instance, sluice_socket socket, int type, const void* data, size_t size);
  /* buffered_amount() was over the route's high watermark, and is now under its low one: send on.
   * May be NULL. */
  void (*on_drain)(void* instance, sluice_socket socket);
  /* The end. May be NULL. */
  void (*on_close)(void* instance, sluice_socket socket, const struct sluice_close_event* event);
};

/* The one function that a plugin exports. May be called more than once, on every thread; returns
 * the same table each time, never NULL. */
SLUICE_EXPORT const struct sluice_plugin* sluice_plugin_entry(void);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* SLUICE_PLUGIN_H */
