/*
 * The default topology: two network namespaces, one a process, joined by a veth pair.
 *
 * The namespaces have no name and no mount: they live as long as the two processes, and the pair lives as long as they
 * do. The server dies with the client (PR_SET_PDEATHSIG), so nothing is left behind after any signal.
 */
#ifndef TICKSCOPE_TOPOLOGY_H
#define TICKSCOPE_TOPOLOGY_H

#include <stdint.h>
#include <sys/types.h>

/* RFC 2544 benchmarking addresses: never routed. */
#define CLIENT_ADDRESS "198.18.0.1"
#define SERVER_ADDRESS "198.18.0.2"
#define CLIENT_DEVICE "tsclient"
#define SERVER_DEVICE "tsserver"
extern const uint8_t CLIENT_MAC[6], SERVER_MAC[6];

/* Moves the calling process into a network namespace of its own. 0, or -errno. */
int namespace_enter(void);

/* Creates the pair from the client's namespace, the other end in the namespace of `server`. 0, or -errno. */
int veth_create(pid_t server);

/* Brings the named end up: MAC, address, permanent neighbour (no ARP in the loop), no checksum offload. 0, or -errno. */
int veth_configure(const char *device, const uint8_t mac[6], const char *address, const char *peer_address,
                   const uint8_t peer_mac[6]);

#endif
