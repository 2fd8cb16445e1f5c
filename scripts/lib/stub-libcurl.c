/*
 * A libcurl.so.4 that connects to nothing: older mongods link the library for a monitoring service that is off, under a
 * symbol version that no present-day system has. It says that it has SSL, since a mongod asks that when it starts.
 */
struct information {
  int age;
  const char *version;
  unsigned int version_number;
  const char *host;
  int features;
  const char *ssl_version;
  long ssl_version_number;
  const char *libz_version;
  const char *const *protocols;
};

enum { HAS_SSL = 1 << 2, COULD_NOT_CONNECT = 7 };

static const char *const protocols[] = {"https", 0};
static struct information about = {0, "7.52.1", 0x073401, "none", HAS_SSL, "none", 0, "none", protocols};
static int handle;

int curl_global_init(long flags) { return 0; }
void curl_global_cleanup(void) {}
struct information *curl_version_info(int age) { return &about; }
void *curl_share_init(void) { return &handle; }
int curl_share_setopt(void *share, int option, ...) { return 0; }
int curl_share_cleanup(void *share) { return 0; }
void *curl_easy_init(void) { return &handle; }
void *curl_easy_duphandle(void *easy) { return &handle; }
int curl_easy_setopt(void *easy, int option, ...) { return 0; }
int curl_easy_getinfo(void *easy, int option, ...) { return COULD_NOT_CONNECT; }
int curl_easy_perform(void *easy) { return COULD_NOT_CONNECT; }
void curl_easy_cleanup(void *easy) {}
const char *curl_easy_strerror(int code) { return "this libcurl connects to nothing"; }
void *curl_slist_append(void *list, const char *text) { return &handle; }
void curl_slist_free_all(void *list) {}
