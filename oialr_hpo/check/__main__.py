from oialr_hpo.check import main

if __name__ == "__main__":
    main()
