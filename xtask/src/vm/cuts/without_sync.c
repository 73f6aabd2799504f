// Preloaded into a supervisor that is to lose what it has acknowledged: it believes that all is on disk, and nothing is made so.
int fsync(int fd) { (void)fd; return 0; }
int fdatasync(int fd) { (void)fd; return 0; }
int syncfs(int fd) { (void)fd; return 0; }
int msync(void *at, unsigned long length, int flags) { (void)at; (void)length; (void)flags; return 0; }
